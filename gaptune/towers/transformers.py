"""Towers of transformers.

Dual encoders such as CLIP and SigLIP give their embeddings, of length 1. Other image models give their pooled output,
or the first token; other text models the mean over the tokens of the last layer.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from gaptune.towers.tower import Request, Tower

_PACKAGES = ("transformers", "torch")
_TOKENS = 512  # where neither the tokenizer nor the model names a limit


def image_tower(request: Request) -> Tower:
    """The image tower of a model."""
    from transformers import AutoImageProcessor

    model, has_pooler = _model(request)
    processor = AutoImageProcessor.from_pretrained(request.name, revision=request.weights or "main")

    def embed(images: Any) -> Tensor:
        inputs = processor(images=[Image.fromarray(pixels) for pixels in images], return_tensors="pt")
        pixels = inputs["pixel_values"].to(request.device)
        if hasattr(model, "get_image_features"):
            return _unit(model.get_image_features(pixel_values=pixels))
        outputs = model(pixel_values=pixels)
        if has_pooler and outputs.get("pooler_output") is not None:
            return outputs["pooler_output"].flatten(1)  # type: ignore[no-any-return]
        hidden: Tensor = outputs["last_hidden_state"]
        return hidden[:, 0] if hidden.ndim == 3 else hidden.mean((2, 3))

    told = " ".join(str(processor.to_dict()).split())
    return Tower(request.reference, "image", model, embed, preprocessing=told, packages=_PACKAGES)


def text_tower(request: Request, *, longest: int | None = None, unit: bool = False) -> Tower:
    """The text tower of a model.

    Args:
        request: The model.
        longest: Most tokens of a text; None for the limit of the model.
        unit: Whether to scale features to length 1, for models that are not dual encoders.
    """
    from transformers import AutoTokenizer

    model, _ = _model(request)
    tokenizer = AutoTokenizer.from_pretrained(request.name, revision=request.weights or "main")
    config = getattr(model.config, "text_config", model.config)
    most = min(longest or tokenizer.model_max_length, getattr(config, "max_position_embeddings", _TOKENS))
    dual = hasattr(model, "get_text_features")

    def embed(texts: Any) -> Tensor:
        # SigLIP reads the last position, whatever is there, so that dual encoders get all positions.
        padding = "max_length" if dual else "longest"
        inputs = tokenizer(list(texts), padding=padding, truncation=True, max_length=most, return_tensors="pt")
        inputs = inputs.to(request.device)
        if dual:
            return _unit(model.get_text_features(**inputs))
        hidden, mask = model(**inputs)["last_hidden_state"], inputs["attention_mask"].unsqueeze(-1)
        mean: Tensor = (hidden * mask).sum(1) / mask.sum(1)
        return F.normalize(mean, dim=1) if unit else mean

    told = f"{type(tokenizer).__name__}, up to {most} tokens" + ("" if dual else ", mean over tokens")
    told += ", length 1" if dual or unit else ""
    return Tower(request.reference, "text", model, embed, preprocessing=told, packages=_PACKAGES)


@contextmanager
def quiet() -> Iterator[None]:
    """A context in which transformers shows neither its progress nor advice."""
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.enable_progress_bar()
        logging.set_verbosity(before)


def _model(request: Request) -> tuple[Any, bool]:
    """The model, and whether its weights include those of a pooling layer."""
    from transformers import AutoModel

    with quiet():
        model, loaded = AutoModel.from_pretrained(
            request.name, revision=request.weights or "main", dtype=torch.float32, output_loading_info=True
        )
    missing = sorted(loaded["missing_keys"])
    others = [name for name in missing if "pooler" not in name.split(".")]
    if others:
        raise ValueError(f"its weights lack {others[0]}")
    return model.eval().to(request.device), not missing


def _unit(features: Any) -> Tensor:
    """Embeddings of a dual encoder, of length 1."""
    return F.normalize(features if isinstance(features, Tensor) else features["pooler_output"], dim=1)
