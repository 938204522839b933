"""Two heads on stored features, in place of towers."""

from __future__ import annotations

import math
from collections import OrderedDict

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gaptune.config import HEADS, ModelConfig
from gaptune.data import FeatureMeta, StoreMeta
from gaptune.errors import UserError
from gaptune.trial.encoder import Augmentation, DualEncoder
from gaptune.trial.streams import generator

_BYTE = 256


class Heads(DualEncoder):
    """A head for each modality, on the features of a store.

    A feature is scaled to the length √d (unless ``normalize`` is off), a training step drops some of its numbers, the
    head maps it to ``width`` numbers, and the result is scaled to length 1. There is no batch norm, so that a step
    depends on other features only through the loss.

    Args:
        model: Kind of head and its options.
        data: Description of the store.

    Raises:
        UserError: The store holds images.
    """

    name = HEADS
    image_size = 0
    context_length = 0
    features: FeatureMeta
    tower: _Towers

    def __init__(self, model: ModelConfig, data: StoreMeta) -> None:
        super().__init__()
        if data.features is None:
            raise UserError(
                f"the model {HEADS} trains on features, and {data.name} is a store of images; make a store of their "
                "features: gaptune data features"
            )
        assert model.dropout is not None  # ModelConfig gives heads all their options
        assert model.normalize is not None
        self.features = data.features
        self.tower = _Towers(model, data.features)
        self._dropped = round(model.dropout * _BYTE)
        self.normalize = model.normalize

    def encode_image(self, images: Tensor, augmentation: Augmentation | None = None) -> Tensor:
        """Embeddings of stored image features, shape (n, d)."""
        return self.embed_image(unit(images, normalize=self.normalize), augmentation)

    def encode_text(self, texts: Tensor, augmentation: Augmentation | None = None) -> Tensor:
        """Embeddings of stored text features, shape (n, d)."""
        return self.embed_text(unit(texts, normalize=self.normalize), augmentation)

    def embed_image(self, features: Tensor, augmentation: Augmentation | None) -> Tensor:
        """Embeddings of image features from ``unit``, which are changed in place."""
        return self._embed(self.tower.image, features, "image", augmentation)

    def embed_text(self, features: Tensor, augmentation: Augmentation | None) -> Tensor:
        """Embeddings of text features from ``unit``, which are changed in place."""
        return self._embed(self.tower.text, features, "text", augmentation)

    def _embed(self, head: nn.Module, features: Tensor, kind: str, augmentation: Augmentation | None) -> Tensor:
        self.scale(features, training=augmentation is not None)
        if augmentation is not None and self._dropped:
            _drop(features, self._dropped, generator(augmentation.seed, f"dropout {kind}", augmentation.step))
        return F.normalize(head(features).float(), dim=1)

    def scale(self, features: Tensor, *, training: bool) -> Tensor:
        """Scales features from ``unit`` in place to the length √d, where they are normalized.

        Args:
            features: Shape (n, d).
            training: Whether numbers will be dropped; the others are then larger, so that the mean stays.
        """
        kept = _BYTE / (_BYTE - self._dropped) if training else 1.0
        return features.mul_(math.sqrt(features.shape[1]) * kept if self.normalize else kept)


def unit(features: Tensor, *, normalize: bool) -> Tensor:
    """Stored features as float32 and of length 1, which is the same in every step of every training.

    Args:
        features: Shape (n, d), of any floating dtype.
        normalize: Whether to scale them to length 1.

    Returns:
        A copy, shape (n, d).
    """
    copy = features.to(torch.float32, copy=True)
    return F.normalize(copy, dim=1, out=copy) if normalize else copy


class _Towers(nn.Module):
    """The weights, by the names that checkpoints hold."""

    def __init__(self, model: ModelConfig, features: FeatureMeta) -> None:
        super().__init__()
        self.image = _head(model, features.image)
        self.text = _head(model, features.text)


class _Residual(nn.Module):
    """A linear layer plus an MLP, whose last layer starts at 0: training starts from the linear head."""

    def __init__(self, linear: nn.Linear, mlp: nn.Sequential) -> None:
        super().__init__()
        self.linear = linear
        self.mlp = mlp
        for parameter in mlp[-1].parameters():
            nn.init.zeros_(parameter)

    def forward(self, features: Tensor) -> Tensor:
        """Embeddings before they are scaled to length 1."""
        outputs: Tensor = self.linear(features) + self.mlp(features)
        return outputs


def _head(model: ModelConfig, inputs: int) -> nn.Module:
    """One head.

    ``linear``: one layer. ``mlp``: a hidden GELU layer of ``width``. ``residual``: a linear layer plus an MLP whose
    hidden GELU layer has a quarter of ``width``.
    """
    assert model.width is not None
    assert model.bias is not None
    width, bias = model.width, model.bias

    def mlp(hidden: int) -> nn.Sequential:
        first, last = nn.Linear(inputs, hidden, bias), nn.Linear(hidden, width, bias)
        return nn.Sequential(OrderedDict(hidden=first, gelu=nn.GELU(), output=last))

    if model.head == "mlp":
        return mlp(width)
    linear = nn.Linear(inputs, width, bias)
    return linear if model.head == "linear" else _Residual(linear, mlp(max(1, width // 4)))


def _drop(features: Tensor, dropped: int, random: torch.Generator) -> None:
    """Sets numbers to 0 in place, each with a probability of ``dropped`` / 256: a random byte each is cheap."""
    words = torch.empty(-(-features.numel() // 8), dtype=torch.int64).random_(-(2**63), None, generator=random)
    kept = words.numpy().view(np.uint8)[: features.numel()].reshape(features.shape) >= dropped
    if features.device.type == "cpu":  # four times as fast as torch's product of numbers and booleans
        np.multiply(features.numpy(), kept, out=features.numpy())
    else:
        features.mul_(torch.from_numpy(kept).to(features.device, non_blocking=True))
