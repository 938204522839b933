"""The CLIP model, built from open_clip's own classes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gaptune.config import AugmentConfig, ModelConfig
from gaptune.config.models import CLIP_VOCABULARY, PRESETS, check_model
from gaptune.data import StoreMeta
from gaptune.data.tokens import END
from gaptune.errors import UserError, first_line
from gaptune.trial.architecture import Architecture, architecture_named, other_tokenizer
from gaptune.trial.augment import Boxes, crop, draw_boxes, resize
from gaptune.trial.encoder import Drawn, DualEncoder, single
from gaptune.trial.short_text import by_length, encode_short, is_causal

_STRIDE = 8  # columns by which the length of a batch of captions grows


class ClipModel(DualEncoder):
    """A CLIP that takes stored images and tokens.

    Its ``tower`` is open_clip's model, whose own logit scale is frozen and not used: the trial has a temperature of its
    own.

    Args:
        model: Name and options of the model.
        data: Description of the store: images, tokens and vocabulary.
        architecture: Architecture of given weights; None for that of the model's name.

    Attributes:
        token_rows: Row of the token embedding for each of CLIP's token ids, shape (49408,).
        mean: Mean of the pixels that it takes, by color, from 0 to 1.
        std: Standard deviation of these pixels.

    Raises:
        UserError: The model is unknown, reads another tokenizer's tokens, does not take images of the size asked for,
            or is too short for the captions.
    """

    tower: Any
    architecture: Architecture
    token_rows: Tensor
    _frozen: Sequence[nn.Module] = ()
    _mean: Tensor
    _std: Tensor

    def __init__(self, model: ModelConfig, data: StoreMeta, architecture: Architecture | None = None) -> None:
        super().__init__()
        check_model(model)
        self.name = model.name
        built = (architecture or architecture_named(model.name)).sized(image_size=model.image_size)
        if model.name in PRESETS:
            built = built.sized(context_length=data.context_length)
        compact = model.vocabulary == "compact" or (model.vocabulary == "auto" and model.name in PRESETS)
        self.tower = _build(model, built, rows=len(data.vocabulary) + 1 if compact else CLIP_VOCABULARY)
        self.tower.logit_scale.requires_grad_(False)
        self.embed_dim = int(built.config["embed_dim"])
        self.image_size = _side(self.tower)
        self._stored_size = data.image_size
        self._causal = is_causal(self.tower)
        self.context_length = int(getattr(self.tower, "context_length", data.context_length))
        if self.context_length < data.context_length:
            raise UserError(
                f"{model.name} reads {self.context_length} tokens, the store has captions of {data.context_length}; "
                f"build it with --context {self.context_length}"
            )
        rows = token_rows(data.vocabulary) if compact else torch.arange(CLIP_VOCABULARY)
        self.register_buffer("token_rows", rows, persistent=False)
        self.mean, self.std = built.mean, built.std
        # However its first weights saw images, it is trained on what stores hold of them.
        self.architecture = replace(built.sized(context_length=self.context_length), resize_mode="shortest")
        self.register_buffer("_mean", 255.0 * torch.tensor(self.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("_std", 255.0 * torch.tensor(self.std).view(1, 3, 1, 1), persistent=False)
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

    def draw(self, n: int, config: AugmentConfig, seed: int, step: int) -> Drawn:
        """Draws crops and flips, if there are any."""
        if config.crop_min == 1.0 and not config.flip:
            return Drawn()
        return Drawn(draw_boxes(n, self._stored_size, config, seed, step))

    def image_inputs(self, images: Tensor, drawn: Boxes | Tensor | None = None) -> Tensor:
        """Stored images, uint8 (n, side, side, 3), cropped or resized, as normalized floats (n, 3, side, side)."""
        if isinstance(drawn, Boxes):
            return self._normalized(crop(images, drawn, self.image_size))
        pixels = self._normalized(images.permute(0, 3, 1, 2).float())
        return resize(pixels, self.image_size).contiguous(memory_format=torch.channels_last)

    def text_inputs(self, texts: Tensor, drawn: Tensor | None = None) -> Tensor:
        """Stored tokens, shape (n, length), as rows of the model's table of tokens, cut to the model's context."""
        ids = self.token_rows[_cut(texts.long(), self.context_length)]
        return ids if self._causal else F.pad(ids, (0, self.context_length - ids.shape[1]))

    def embed_images(self, inputs: Tensor) -> Tensor:
        """Embeddings of pixels, shape (n, d)."""
        return F.normalize(single(self.tower.encode_image(inputs)), dim=1)

    def embed_texts(self, inputs: Tensor) -> Tensor:
        """Embeddings of tokens, shape (n, d)."""
        if not self._causal or inputs.device.type != "cpu":
            return self._embed_texts(inputs)
        order, groups = by_length(inputs)
        return torch.cat([self._embed_texts(group) for group in groups])[order.argsort()]

    def embed(self, images: Tensor, texts: Tensor) -> tuple[Tensor, Tensor]:
        """Embeddings of pixels and tokens, without groups by length."""
        return self.embed_images(images), self._embed_texts(texts)

    def _embed_texts(self, inputs: Tensor) -> Tensor:
        features = encode_short(self.tower, inputs) if self._causal else self.tower.encode_text(inputs)
        return F.normalize(single(features), dim=1)

    def trimmed(self, texts: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Tokens without the padding that all rows share, but for up to seven columns: few lengths occur."""
        if not self._causal:
            return texts
        longest = int(np.flatnonzero((texts != 0).any(axis=0)).max(initial=0)) + 1
        return texts[:, : -(-longest // _STRIDE) * _STRIDE]

    def _normalized(self, pixels: Tensor) -> Tensor:
        """Numbers from 0 to 255, shape (n, 3, side, side), changed in place."""
        return pixels.sub_(self._mean).div_(self._std)

    def unknown(self, tokens: Tensor) -> Tensor:
        """Which tokens, of any shape, the model has no row for: a small vocabulary is that of its training data."""
        tokens = tokens.long()
        return (tokens != 0) & (self.token_rows[tokens] == 0)


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


def _cut(tokens: Tensor, length: int) -> Tensor:
    """Tokens as ``tokenize`` gives them for a context of ``length``; what is short enough stays as it is."""
    if tokens.shape[1] <= length:
        return tokens
    short = tokens[:, :length].clone()
    short[:, -1] = torch.where(short[:, -1] != 0, END, 0)
    return short


def _build(model: ModelConfig, architecture: Architecture, rows: int) -> Any:
    if other_tokenizer(architecture.config):
        raise UserError(f"{model.name} reads another tokenizer's tokens; stores hold CLIP's")
    config = architecture.config | {"text_cfg": {**architecture.config["text_cfg"], "vocab_size": rows}}
    size, own = (each["vision_cfg"].get("image_size") for each in (config, architecture_named(model.name).config))
    try:
        tower = _preset(config) if model.name in PRESETS else _named(model.name, config, None if size == own else size)
        if size != own:  # not every architecture takes every size, and it shows only when run
            with torch.no_grad():
                tower.eval().encode_image(torch.zeros(1, 3, size, size))
            tower.train()
    except (RuntimeError, TypeError, OSError, ImportError) as error:
        of_size = f" for images of {size} pixels" if size != own else ""
        raise UserError(f"{model.name} cannot be built{of_size}: {first_line(error)}") from None
    return tower


def _preset(config: dict[str, Any]) -> Any:
    from open_clip.model import CLIP

    return CLIP(**{key: value for key, value in config.items() if key != "custom_text"})


def _named(name: str, config: dict[str, Any], image_size: int | None) -> Any:
    import open_clip

    vision = {**config["vision_cfg"], "timm_model_pretrained": False}
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)  # open_clip warns of random weights, which are meant
    try:
        return open_clip.create_model(
            name,
            pretrained=None,
            device=torch.get_default_device(),  # "meta" where only its shapes are wanted
            force_image_size=image_size,
            **({key: value for key, value in config.items() if key != "custom_text"} | {"vision_cfg": vision}),
        )
    finally:
        logging.disable(before)


def _side(tower: Any) -> int:
    size = tower.visual.image_size
    return int(size[0] if isinstance(size, tuple | list) else size)
