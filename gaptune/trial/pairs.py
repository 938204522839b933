"""The pairs of a training step: read from a split, and embedded by the model."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gaptune.data import Split
from gaptune.trial.encoder import Augmentation, DualEncoder
from gaptune.trial.heads import Heads, unit

_RESIDENT = 2**30
"""Bytes of features above which they are read and normalized in each step."""


class Pairs(Protocol):
    """The embeddings of pairs of a training split."""

    def __call__(
        self, rows: npt.NDArray[np.int64], which: npt.NDArray[Any], augmentation: Augmentation
    ) -> tuple[Tensor, Tensor]:
        """Embeds some images, each with one of its captions.

        Args:
            rows: Rows of the images, shape (n,).
            which: Numbers in [0, 1) that pick a caption of each image, shape (n,).
            augmentation: What is drawn in this step.

        Returns:
            Embeddings of images and of captions, both of shape (n, d), with gradients.
        """


def pairs_of(model: DualEncoder, split: Split, device: torch.device) -> Pairs:
    """The pairs of a split: those of heads stay in memory, normalized, unless they are many."""
    if isinstance(model, Heads):
        numbers = len(split) * model.features.image + len(split.texts) * model.features.text
        if numbers * torch.float32.itemsize <= _RESIDENT:
            return _Resident(model, split, device)
    return _Stored(model, split, device)


class _Stored:
    """Pairs that are read from the split in each step."""

    def __init__(self, model: DualEncoder, split: Split, device: torch.device) -> None:
        self._model = model
        self._split = split
        self._device = device

    def __call__(
        self, rows: npt.NDArray[np.int64], which: npt.NDArray[Any], augmentation: Augmentation
    ) -> tuple[Tensor, Tensor]:
        images = self._to_device(self._split.gather(rows))
        texts = self._to_device(self._split.texts[chosen_captions(self._split, rows, which)])
        return self._model.encode_image(images, augmentation), self._model.encode_text(texts, augmentation)

    def _to_device(self, array: npt.NDArray[Any]) -> Tensor:
        tensor = torch.from_numpy(array)
        if self._device.type == "cuda":  # pinned, so that the copy runs beside the computation
            tensor = tensor.pin_memory()
        return tensor.to(self._device, non_blocking=True)


class _Units(NamedTuple):
    """All features of a split, as ``unit`` gives them for ``normalize``, on a device."""

    normalize: bool
    device: torch.device
    images: Tensor
    texts: Tensor


_units: WeakKeyDictionary[Split, _Units] = WeakKeyDictionary()
"""The features of splits that are open: a process that trains one trial after the other on a store makes them once."""


def _units_of(split: Split, normalize: bool, device: torch.device) -> _Units:
    found = _units.get(split)
    if found is None or (found.normalize, found.device) != (normalize, device):
        images, texts = (
            unit(torch.tensor(features, device=device), normalize=normalize)
            for features in (split.gather(np.arange(len(split))), split.texts)
        )
        found = _units[split] = _Units(normalize, device, images, texts)
    return found


class _Resident:
    """Pairs of features that are in memory, on the device; a step copies its own rows and nothing else."""

    def __init__(self, model: Heads, split: Split, device: torch.device) -> None:
        self._model = model
        self._split = split
        self._device = device
        self._units = _units_of(split, model.normalize, device)

    def __call__(
        self, rows: npt.NDArray[np.int64], which: npt.NDArray[Any], augmentation: Augmentation
    ) -> tuple[Tensor, Tensor]:
        images = self._units.images.index_select(0, self._index(rows))
        texts = self._units.texts.index_select(0, self._index(chosen_captions(self._split, rows, which)))
        return self._model.embed_image(images, augmentation), self._model.embed_text(texts, augmentation)

    def _index(self, rows: npt.NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(rows).to(self._device, non_blocking=True)


def chosen_captions(split: Split, rows: npt.NDArray[np.int64], which: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """The captions of some images that ``which`` picks, as rows of ``Split.texts``; see ``Pairs``."""
    first = split.offsets[rows]
    chosen: npt.NDArray[np.int64] = first + (which * (split.offsets[rows + 1] - first)).astype(np.int64)
    return chosen
