"""The interface of a model for training, evaluation and checkpoints."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from gaptune.config import AugmentConfig
from gaptune.trial.architecture import Architecture


class Augmentation(NamedTuple):
    """Random crops and flips of a training step.

    Attributes:
        config: Augmentation.
        seed: Seed of the trial.
        step: Decides, with the seed, what is drawn.
    """

    config: AugmentConfig
    seed: int
    step: int


class DualEncoder(nn.Module, ABC):
    """An encoder of images and one of texts, with L2-normalized embeddings of the same width.

    It takes images and texts as ``Split`` holds them: pixels and token ids, or features. It is a base class, not a
    Protocol, because optimizer, device and mode need an ``nn.Module``.

    Attributes:
        name: Name of the model.
        tower: The module whose weights are trained and saved.
        image_size: Side of the images that it takes; 0 if it takes features.
        context_length: Token ids that it takes per text; 0 if it takes features.
        architecture: What open_clip builds it from; None if it is not a model of open_clip.
        weights_hash: Hash of the weights that it started from; None for random ones and those of a tag.
        remarks: Sentences about its initial weights, for the user.
    """

    name: str
    tower: nn.Module
    image_size: int
    context_length: int
    architecture: Architecture | None = None
    weights_hash: str | None = None
    remarks: Sequence[str] = ()

    @abstractmethod
    def encode_image(self, images: Tensor, augmentation: Augmentation | None = None) -> Tensor:
        """Embeddings of images, shape (n, d); features are never augmented."""

    @abstractmethod
    def encode_text(self, texts: Tensor) -> Tensor:
        """Embeddings of texts, shape (n, d)."""

    def unknown(self, tokens: Tensor) -> Tensor:
        """Which tokens the model does not know, of the shape of ``tokens``."""
        return torch.zeros_like(tokens, dtype=torch.bool)
