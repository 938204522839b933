"""Towers of sentence-transformers: what its models' own ``encode`` gives."""

from __future__ import annotations

from typing import Any

from PIL import Image

from gaptune.towers.tower import Request, Tower
from gaptune.towers.transformers import quiet

_PACKAGES = ("sentence-transformers", "transformers", "torch")


def image_tower(request: Request) -> Tower:
    """A model that takes images, such as CLIP."""
    model = _model(request)

    def embed(images: Any) -> Any:
        return model.encode(
            [Image.fromarray(pixels) for pixels in images], convert_to_tensor=True, show_progress_bar=False
        )

    return _tower(request, model, embed)


def text_tower(request: Request) -> Tower:
    """A model that takes texts."""
    model = _model(request)
    return _tower(
        request, model, lambda texts: model.encode(list(texts), convert_to_tensor=True, show_progress_bar=False)
    )


def _model(request: Request) -> Any:
    from sentence_transformers import SentenceTransformer

    with quiet():
        model = SentenceTransformer(
            request.name, revision=request.weights, device=request.device.type, trust_remote_code=False
        )
    return model.eval()


def _tower(request: Request, model: Any, embed: Any) -> Tower:
    told = " ".join(str(model).split())
    return Tower(request.reference, request.modality, model, embed, preprocessing=told, packages=_PACKAGES)
