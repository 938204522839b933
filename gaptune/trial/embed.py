"""Features of a whole split, batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
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
from gaptune.trial.ranks import ALONE, Ranks

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
    """Computes a model's features of stored images and texts. Each rank computes its share; all have all of them.

    Args:
        model: The model.
        device: Device of the model.
        precision: ``bf16`` for autocast; any other computes in float32.
        progress: Called after each batch.
        ranks: The processes that have the model.
    """

    def __init__(
        self,
        model: DualEncoder,
        device: torch.device,
        precision: str,
        progress: Progress = silent,
        ranks: Ranks = ALONE,
    ) -> None:
        self._ranks = ranks
        self._model = model
        self._progress = progress
        self._device = device
        self._autocast = precision == "bf16"

    def images(self, split: Split, rows: npt.NDArray[np.int64] | None = None) -> Tensor:
        """Images of a split, all of them or some rows, shape (n, d), L2-normalized.

        Raises:
            NonFinite: A feature is not finite.
        """
        chosen = np.arange(len(split)) if rows is None else rows
        features = self._embedded(
            lambda batch: self._model.encode_image(torch.from_numpy(split.gather(batch)).to(self._device)), chosen
        )
        return _finite(features, "image")

    def texts(self, texts: npt.NDArray[Any]) -> Tensor:
        """Texts as ``Split.texts`` holds them, shape (n, d), L2-normalized.

        Raises:
            NonFinite: A feature is not finite.
        """
        features = self._embedded(
            lambda batch: self._model.encode_text(torch.from_numpy(batch.copy()).to(self._device)), texts
        )
        return _finite(features, "text")

    def _embedded(self, encode: Callable[[npt.NDArray[Any]], Tensor], inputs: npt.NDArray[Any]) -> Tensor:
        mine = inputs[self._ranks.rows(len(inputs))]
        parts = []
        for start in range(0, len(mine), _BATCH):
            with torch.autocast(self._device.type, torch.bfloat16, enabled=self._autocast):
                parts.append(encode(mine[start : start + _BATCH]))
            self._progress()
        features = torch.cat(parts) if parts else torch.empty(0, self._model.embed_dim, device=self._device)
        return self._ranks.gathered(features, len(inputs))

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
