"""The CLIP that is trained, built from open_clip's own classes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gaptune.config import Model
from gaptune.data import StoreMeta
from gaptune.errors import UserError
from gaptune.models import CLIP_VOCABULARY, PRESETS, check_model

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # CLIP's own


class Clip(nn.Module):
    """A CLIP that takes stored images and tokens, and returns L2-normalized features.

    Args:
        model: Which.
        data: What the store says of images, tokens and vocabulary.

    Attributes:
        tower: open_clip's model. Its own logit scale is frozen and not used: the trial has a temperature of its own.
        image_size: Side of the images that it takes.
        context_length: Tokens that it takes.
        token_rows: Row of the token embedding for each of CLIP's token ids, shape (49408,).
        mean: Of the pixels that it was trained on, by color, from 0 to 1.
        std: Their standard deviation.

    Raises:
        UserError: The model is unknown, reads another tokenizer's tokens, does not take images of the size asked for,
            or is too short for the captions.
    """

    token_rows: Tensor
    _frozen: Sequence[nn.Module] = ()
    _mean: Tensor
    _std: Tensor

    def __init__(self, model: Model, data: StoreMeta) -> None:
        super().__init__()
        check_model(model)
        compact = model.vocabulary == "compact" or (model.vocabulary == "auto" and model.name in PRESETS)
        self.tower = _build(model, data, rows=len(data.vocabulary) + 1 if compact else CLIP_VOCABULARY)
        self.tower.logit_scale.requires_grad_(False)
        self.image_size = _side(self.tower)
        self.context_length = int(getattr(self.tower, "context_length", data.context_length))
        if self.context_length < data.context_length:
            raise UserError(
                f"{model.name} reads {self.context_length} tokens, the store has captions of {data.context_length}; "
                f"build it with --context {self.context_length}"
            )
        rows = token_rows(data.vocabulary) if compact else torch.arange(CLIP_VOCABULARY)
        self.register_buffer("token_rows", rows, persistent=False)
        self.mean, self.std = _normalization(model)
        self.register_buffer("_mean", torch.tensor(self.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("_std", torch.tensor(self.std).view(1, 3, 1, 1), persistent=False)
        if model.freeze is not None:
            self._freeze(lambda name: (name.partition(".")[0] == "visual") == (model.freeze == "image"))

    def _freeze(self, chosen: Callable[[str], bool]) -> None:
        for name, parameter in self.tower.named_parameters():
            if chosen(name):
                parameter.requires_grad_(False)
        self._frozen = [child for name, child in self.tower.named_children() if chosen(name)]

    def train(self, mode: bool = True) -> Self:
        """Sets the mode for training; a frozen tower stays as for evaluation, so that its statistics stay too."""
        super().train(mode)
        for part in self._frozen:
            part.eval()
        return self

    def pixels(self, images: Tensor) -> Tensor:
        """Stored images, uint8 (n, side, side, 3), as normalized floats (n, 3, side, side) in channels_last."""
        scaled = images.permute(0, 3, 1, 2).float().div_(255.0)
        return scaled.sub_(self._mean).div_(self._std)

    def unknown(self, tokens: Tensor) -> Tensor:
        """Which tokens, of any shape, the model has no row for: a small vocabulary is that of its training data."""
        return (tokens != 0) & (self.token_rows[tokens.long()] == 0)

    def image_features(self, pixels: Tensor) -> Tensor:
        """L2-normalized features, shape (n, d), of images as ``pixels`` gives them, at the model's size."""
        features = self.tower.encode_image(pixels.contiguous(memory_format=torch.channels_last))
        return F.normalize(features.float(), dim=1)

    def text_features(self, tokens: Tensor) -> Tensor:
        """L2-normalized features, shape (n, d), of stored tokens, shape (n, context length of the store)."""
        ids = F.pad(self.token_rows[tokens.long()], (0, self.context_length - tokens.shape[1]))
        return F.normalize(self.tower.encode_text(ids).float(), dim=1)


def token_rows(vocabulary: Sequence[int]) -> Tensor:
    """The row of each of CLIP's token ids in the table of a compact vocabulary.

    Row 0 is for padding and unknown tokens; ascending ids keep the end token the highest, where open_clip looks for it.

    Args:
        vocabulary: Sorted token ids.

    Returns:
        int64, shape (49408,).
    """
    rows = torch.zeros(CLIP_VOCABULARY, dtype=torch.int64)
    rows[torch.tensor(vocabulary)] = torch.arange(1, len(vocabulary) + 1)
    return rows


def _normalization(model: Model) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of the pixels: CLIP's own, unless published weights were trained with others."""
    if model.pretrained is None or model.name in PRESETS:
        return MEAN, STD
    import open_clip.pretrained

    known = open_clip.pretrained.get_pretrained_cfg(model.name, model.pretrained)
    return tuple(known.get("mean") or MEAN), tuple(known.get("std") or STD)


def _build(model: Model, data: StoreMeta, rows: int) -> Any:
    try:
        tower = _preset(model, data, rows) if model.name in PRESETS else _named(model, rows)
        if model.image_size is not None:  # not every architecture takes every size, and it shows only when run
            with torch.no_grad():
                tower.eval().encode_image(torch.zeros(1, 3, model.image_size, model.image_size))
            tower.train()
    except (RuntimeError, TypeError, OSError, ImportError) as fault:
        size = f" for images of {model.image_size} pixels" if model.image_size is not None else ""
        raise UserError(f"{model.name} cannot be built{size}: {str(fault).splitlines()[0]}") from None
    return tower


def _preset(model: Model, data: StoreMeta, rows: int) -> Any:
    from open_clip.model import CLIP

    preset = PRESETS[model.name]
    vision = {**preset["vision_cfg"], "image_size": model.image_size or preset["vision_cfg"]["image_size"]}
    text = {**preset["text_cfg"], "context_length": data.context_length, "vocab_size": rows}
    return CLIP(preset["embed_dim"], vision, text)


def _named(model: Model, rows: int) -> Any:
    import open_clip

    text = open_clip.get_model_config(model.name)["text_cfg"]
    if "hf_tokenizer_name" in text or "hf_model_name" in text:
        raise UserError(f"{model.name} reads another tokenizer's tokens; stores hold CLIP's")
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)  # open_clip warns of random weights, which are meant
    try:
        return open_clip.create_model(
            model.name,
            pretrained=None,
            device=torch.get_default_device(),  # "meta" where only its shapes are wanted
            force_image_size=model.image_size,
            text_cfg={**text, "vocab_size": rows},
        )
    finally:
        logging.disable(before)


def _side(tower: Any) -> int:
    size = tower.visual.image_size
    return int(size[0] if isinstance(size, tuple | list) else size)
