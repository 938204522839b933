"""Two heads on stored features, in place of towers."""

from __future__ import annotations

import math
from collections import OrderedDict

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gaptune.config import HEADS, AugmentConfig, ModelConfig
from gaptune.data import FeatureMeta, StoreMeta
from gaptune.errors import UserError
from gaptune.trial.augment import Boxes
from gaptune.trial.encoder import Drawn, DualEncoder, single
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
        assert model.width is not None
        self.embed_dim = model.width
        self._dropped = round(model.dropout * _BYTE)
        self.normalize = model.normalize

    def draw(self, n: int, config: AugmentConfig, seed: int, step: int) -> Drawn:
        """Draws which numbers of each feature are kept."""
        if not self._dropped:
            return Drawn()
        image, text = (
            _kept((n, width), self._dropped, generator(seed, f"dropout {kind}", step))
            for kind, width in (("image", self.features.image), ("text", self.features.text))
        )
        return Drawn(image, text)

    def image_inputs(self, images: Tensor, drawn: Boxes | Tensor | None = None) -> Tensor:
        """Stored image features as the head takes them."""
        assert not isinstance(drawn, Boxes)
        return self.dropped(unit(images, normalize=self.normalize), drawn)

    def text_inputs(self, texts: Tensor, drawn: Tensor | None = None) -> Tensor:
        """Stored text features as the head takes them."""
        return self.dropped(unit(texts, normalize=self.normalize), drawn)

    def embed_images(self, inputs: Tensor) -> Tensor:
        """Embeddings of image features, shape (n, d)."""
        return F.normalize(single(self.tower.image(inputs)), dim=1)

    def embed_texts(self, inputs: Tensor) -> Tensor:
        """Embeddings of text features, shape (n, d)."""
        return F.normalize(single(self.tower.text(inputs)), dim=1)

    def dropped(self, features: Tensor, kept: Tensor | None) -> Tensor:
        """Scales features from ``unit``, and sets to 0 what a training step leaves out; both in place.

        Args:
            features: Shape (n, d).
            kept: Boolean, shape (n, d); None where nothing is left out.

        Returns:
            The features, of length √d in the mean where they are normalized.
        """
        scale = _BYTE / (_BYTE - self._dropped) if kept is not None else 1.0
        features.mul_(math.sqrt(features.shape[1]) * scale if self.normalize else scale)
        if kept is None:
            return features
        if features.device.type == "cpu":  # four times as fast as torch's product of numbers and booleans
            np.multiply(features.numpy(), kept.numpy(), out=features.numpy())
            return features
        return features.mul_(kept)


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


def _kept(shape: tuple[int, int], dropped: int, random: torch.Generator) -> Tensor:
    """Which numbers are kept: each is left out with a probability of ``dropped`` / 256; a random byte each is cheap."""
    numbers = math.prod(shape)
    words = torch.empty(-(-numbers // 8), dtype=torch.int64).random_(-(2**63), None, generator=random)
    return torch.from_numpy(words.numpy().view(np.uint8)[:numbers].reshape(shape) >= dropped)
