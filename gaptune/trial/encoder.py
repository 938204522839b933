"""The interface of a model for training, evaluation and checkpoints."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from gaptune.config import AugmentConfig
from gaptune.data import FeatureMeta
from gaptune.trial.architecture import Architecture


class Augmentation(NamedTuple):
    """What a training step draws at random: crops and flips of images, or the numbers of features that are dropped.

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

    It takes images and texts as ``Split`` holds them: pixels and token ids, or features. ``augmentation`` is that of a
    training step, and None in evaluations. It is a base class, not a
    Protocol, because optimizer, device and mode need an ``nn.Module``.

    Attributes:
        name: Name of the model.
        tower: The module whose weights are trained and saved.
        image_size: Side of the images that it takes; 0 if it takes features.
        context_length: Token ids that it takes per text; 0 if it takes features.
        features: Sizes of the features that it takes in place of images and token ids; None if it takes these.
        architecture: What open_clip builds it from; None if it is not a model of open_clip.
        weights_hash: Hash of the weights that it started from; None for random ones and those of a tag.
        remarks: Sentences about its initial weights, for the user.
    """

    name: str
    tower: nn.Module
    image_size: int
    context_length: int
    features: FeatureMeta | None = None
    architecture: Architecture | None = None
    weights_hash: str | None = None
    remarks: Sequence[str] = ()

    @abstractmethod
    def encode_image(self, images: Tensor, augmentation: Augmentation | None = None) -> Tensor:
        """Embeddings of images, shape (n, d)."""

    @abstractmethod
    def encode_text(self, texts: Tensor, augmentation: Augmentation | None = None) -> Tensor:
        """Embeddings of texts, shape (n, d); token ids are never augmented."""

    def unknown(self, tokens: Tensor) -> Tensor:
        """Which tokens the model does not know, of the shape of ``tokens``."""
        return torch.zeros_like(tokens, dtype=torch.bool)
