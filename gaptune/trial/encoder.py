"""The interface of a model for training, evaluation and checkpoints."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy.typing as npt
import torch
from torch import Tensor, nn

from gaptune.config import AugmentConfig
from gaptune.data import FeatureMeta
from gaptune.trial.architecture import Architecture
from gaptune.trial.augment import Boxes


class Drawn(NamedTuple):
    """What a training step draws at random for the inputs of a model; None where nothing is.

    Attributes:
        images: Crops and flips of images; or which numbers of their features are kept, boolean of shape (n, width).
        texts: Which numbers of the features of texts are kept, boolean of shape (n, width).
    """

    images: Boxes | Tensor | None = None
    texts: Tensor | None = None

    def part(self, rows: slice) -> Drawn:
        """What is drawn for some of the pairs."""
        images = Boxes(*(each[rows] for each in self.images)) if isinstance(self.images, Boxes) else self.images
        images = images[rows] if isinstance(images, Tensor) else images
        return Drawn(images, None if self.texts is None else self.texts[rows])


def single(features: Tensor) -> Tensor:
    """Features as float32, if their precision is less."""
    return features.float() if features.dtype in (torch.bfloat16, torch.float16) else features


class DualEncoder(nn.Module, ABC):
    """An encoder of images and one of texts, with L2-normalized embeddings of the same width.

    What a ``Split`` holds (pixels and token ids, or features) becomes *inputs*, augmented in a training step; these
    become embeddings. It is a base class, not a Protocol, because optimizer, device and mode need an ``nn.Module``.

    Attributes:
        name: Name of the model.
        tower: The module whose weights are trained and saved.
        embed_dim: Width of the embeddings.
        image_size: Side of the images that it takes; 0 if it takes features.
        context_length: Token ids that it takes per text; 0 if it takes features.
        features: Sizes of the features that it takes in place of images and token ids; None if it takes these.
        architecture: What open_clip builds it from; None if it is not a model of open_clip.
        weights_hash: Hash of the weights that it started from; None for random ones and those of a tag.
        remarks: Sentences about its initial weights, for the user.
    """

    name: str
    tower: nn.Module
    embed_dim: int
    image_size: int
    context_length: int
    features: FeatureMeta | None = None
    architecture: Architecture | None = None
    weights_hash: str | None = None
    remarks: Sequence[str] = ()

    @abstractmethod
    def draw(self, n: int, config: AugmentConfig, seed: int, step: int) -> Drawn:
        """Draws what a training step needs for n pairs, on the CPU.

        Args:
            n: Pairs of the step.
            config: Augmentation.
            seed: Seed of the trial.
            step: Decides, with the seed, what is drawn.
        """

    @abstractmethod
    def image_inputs(self, images: Tensor, drawn: Boxes | Tensor | None = None) -> Tensor:
        """Inputs from images as ``Split.gather`` gives them, with what is drawn for them in a training step."""

    @abstractmethod
    def text_inputs(self, texts: Tensor, drawn: Tensor | None = None) -> Tensor:
        """Inputs from texts as ``Split.texts`` holds them, with what is drawn for them in a training step."""

    @abstractmethod
    def embed_images(self, inputs: Tensor) -> Tensor:
        """Embeddings of inputs, shape (n, d)."""

    @abstractmethod
    def embed_texts(self, inputs: Tensor) -> Tensor:
        """Embeddings of inputs, shape (n, d)."""

    def embed(self, images: Tensor, texts: Tensor) -> tuple[Tensor, Tensor]:
        """Embeddings of inputs, both of shape (n, d), by operations that are the same whatever the inputs hold."""
        return self.embed_images(images), self.embed_texts(texts)

    def encode_image(self, images: Tensor) -> Tensor:
        """Embeddings of images as ``Split.gather`` gives them, shape (n, d)."""
        return self.embed_images(self.image_inputs(images))

    def encode_text(self, texts: Tensor) -> Tensor:
        """Embeddings of texts as ``Split.texts`` holds them, shape (n, d)."""
        return self.embed_texts(self.text_inputs(texts))

    def trimmed(self, texts: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Texts of ``Split.texts`` without what the model need not read."""
        return texts

    def unknown(self, tokens: Tensor) -> Tensor:
        """Which tokens the model does not know, of the shape of ``tokens``."""
        return torch.zeros_like(tokens, dtype=torch.bool)
