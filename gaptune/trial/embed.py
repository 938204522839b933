"""Features of a whole split, batch by batch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gaptune.data import Split, Store
from gaptune.data.tokens import tokenize
from gaptune.metrics.classification import class_embeddings
from gaptune.trial.device import full_precision
from gaptune.trial.encoder import DualEncoder
from gaptune.trial.loss import NonFinite

_BATCH = 512


class Progress(Protocol):
    """Called for each step of long work, so that progress can be shown."""

    def __call__(self, epochs: float | None = None, /) -> None:
        """Notes that a step is done.

        Args:
            epochs: Epochs trained so far, with the part of the one that has begun; None outside of training.
        """


def silent(epochs: float | None = None, /) -> None:
    """A ``Progress`` that shows nothing."""


@contextmanager
def evaluating(model: DualEncoder) -> Iterator[None]:
    """A context without gradients, and in full float32, in which a model is in its mode for evaluation."""
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad(), full_precision():
            yield
    finally:
        model.train(was_training)


class Features:
    """Computes a model's features of stored images and texts.

    Args:
        model: The model.
        device: Device of the model.
        precision: ``bf16`` for autocast; any other computes in float32.
        progress: Called after each batch.
    """

    def __init__(self, model: DualEncoder, device: torch.device, precision: str, progress: Progress = silent) -> None:
        self._model = model
        self._progress = progress
        self._device = device
        self._autocast = precision == "bf16"

    def images(self, split: Split, rows: npt.NDArray[np.int64] | None = None) -> Tensor:
        """Images of a split, all of them or some rows, shape (n, d), L2-normalized.

        Raises:
            NonFinite: A feature is not finite.
        """
        parts = []
        chosen = np.arange(len(split)) if rows is None else rows
        for start in range(0, len(chosen), _BATCH):
            batch = chosen[start : start + _BATCH]
            with torch.autocast(self._device.type, torch.bfloat16, enabled=self._autocast):
                parts.append(self._model.encode_image(torch.from_numpy(split.gather(batch)).to(self._device)))
            self._progress()
        return _finite(torch.cat(parts), "image")

    def texts(self, texts: npt.NDArray[Any]) -> Tensor:
        """Texts as ``Split.texts`` holds them, shape (n, d), L2-normalized.

        Raises:
            NonFinite: A feature is not finite.
        """
        parts = []
        for start in range(0, len(texts), _BATCH):
            with torch.autocast(self._device.type, torch.bfloat16, enabled=self._autocast):
                batch = torch.from_numpy(texts[start : start + _BATCH].copy())
                parts.append(self._model.encode_text(batch.to(self._device)))
            self._progress()
        return _finite(torch.cat(parts), "text")

    def classes(self, store: Store) -> Tensor:
        """A store's classes by its prompts, or by their features, shape (classes, d), L2-normalized."""
        meta, texts = store.meta, store.prompt_features()
        if texts is not None:
            return class_embeddings(self.texts(texts.reshape(-1, texts.shape[-1])), len(meta.classes))
        prompts = [template.format(name) for name in meta.classes for template in meta.prompts]
        return class_embeddings(self.texts(tokenize(prompts, self._model.context_length)), len(meta.classes))


def _finite(features: Tensor, kind: str) -> Tensor:
    if not bool(torch.isfinite(features).all()):
        raise NonFinite(f"{kind} features are not finite")
    return features
