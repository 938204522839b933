"""Towers of open_clip."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gaptune.errors import UserError, did_you_mean
from gaptune.towers.tower import Request, Tower, stacked

_PACKAGES = ("open_clip_torch", "torch")


def image_tower(request: Request) -> Tower:
    """The image tower of a model, with embeddings of length 1."""
    model, transform = _model(request)
    return Tower(
        request.reference,
        "image",
        model,
        lambda images: model.encode_image(stacked(images, transform, request.device), normalize=True),
        preprocessing=" ".join(str(transform).split()),
        packages=_PACKAGES,
    )


def text_tower(request: Request) -> Tower:
    """The text tower of a model, with embeddings of length 1."""
    import open_clip

    model, _ = _model(request)
    tokenizer = open_clip.get_tokenizer(_named(request.name))
    return Tower(
        request.reference,
        "text",
        model,
        lambda texts: model.encode_text(tokenizer(list(texts)).to(request.device), normalize=True),
        preprocessing=f"{type(tokenizer).__name__}, {tokenizer.context_length} tokens",
        packages=_PACKAGES,
    )


def _model(request: Request) -> tuple[Any, Any]:
    """The model, and the transform of its images."""
    import open_clip

    name = _named(request.name)
    if name == request.name and ":" not in name:
        _check(request)
    model, _, transform = open_clip.create_model_and_transforms(
        name,
        pretrained=None if request.is_random else request.weights,
        device=request.device,
        weights_only=True,
    )
    return model.eval(), transform


def _named(name: str) -> str:
    """A name as open_clip takes it."""
    return f"local-dir:{name}" if Path(name).is_dir() else name


def _check(request: Request) -> None:
    """Refuses an unknown model, and one without weights: open_clip would take random ones."""
    import open_clip

    if request.name not in open_clip.list_models():
        hint = did_you_mean(request.name, open_clip.list_models())
        raise UserError(f"{request.reference}: open_clip has no model {request.name!r}{hint}")
    tags = open_clip.list_pretrained_tags_by_model(request.name)
    if request.weights is None:
        raise UserError(f"{request.reference} needs weights after @: {', '.join([*tags, 'a file'])}, or random")
    if not (request.is_random or request.weights in tags or Path(request.weights).is_file()):
        raise UserError(
            f"{request.reference}: no file and no tag {request.weights!r}{did_you_mean(request.weights, tags)}"
        )
