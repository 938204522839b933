"""Features of a whole split, batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gaptune.data import Split, StoreMeta
from gaptune.data.tokens import shorten, tokenize
from gaptune.metrics.classification import class_embeddings
from gaptune.trial.augment import resize
from gaptune.trial.loss import NonFinite
from gaptune.trial.model import Clip

_BATCH = 512


Progress = Callable[[], None]
"""Called for each step of long work, so that somebody who watches knows that it moves."""


def silent() -> None:
    """A ``Progress`` that tells nobody."""


@contextmanager
def evaluating(model: Clip) -> Iterator[None]:
    """A context without gradients in which a model is in its mode for evaluation."""
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(was_training)


class Features:
    """What a model makes of stored images and tokens.

    Args:
        model: The model.
        device: Where it is.
        precision: ``fp32``, or ``bf16`` for autocast.
        progress: Called after each batch.
    """

    def __init__(self, model: Clip, device: torch.device, precision: str, progress: Progress = silent) -> None:
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
                pixels = self._model.pixels(torch.from_numpy(split.gather(batch)).to(self._device))
                parts.append(self._model.image_features(resize(pixels, self._model.image_size)))
            self._progress()
        return _finite(torch.cat(parts), "image")

    def texts(self, tokens: npt.NDArray[np.uint16]) -> Tensor:
        """Texts by their tokens, cut to the model's context; shape (n, d), L2-normalized.

        Raises:
            NonFinite: A feature is not finite.
        """
        tokens = shorten(tokens, self._model.context_length)
        parts = []
        for start in range(0, len(tokens), _BATCH):
            with torch.autocast(self._device.type, torch.bfloat16, enabled=self._autocast):
                batch = torch.from_numpy(tokens[start : start + _BATCH].astype(np.int64))
                parts.append(self._model.text_features(batch.to(self._device)))
            self._progress()
        return _finite(torch.cat(parts), "text")

    def classes(self, meta: StoreMeta) -> Tensor:
        """A store's classes by its prompts, shape (classes, d), L2-normalized."""
        prompts = [template.format(name) for name in meta.classes for template in meta.prompts]
        return class_embeddings(self.texts(tokenize(prompts, self._model.context_length)), len(meta.classes))


def _finite(features: Tensor, kind: str) -> Tensor:
    if not bool(torch.isfinite(features).all()):
        raise NonFinite(f"{kind} features are not finite")
    return features
