"""A model's features of stored data, and its scores on held-out data of the kind that it was trained on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gaptune.data import Split, Store, StoreMeta
from gaptune.data.tasks import own_probes
from gaptune.data.tokens import shorten, tokenize
from gaptune.metrics.classification import class_embeddings, linear_probe, zero_shot
from gaptune.metrics.embeddings import score_pairs
from gaptune.trial.augment import resize
from gaptune.trial.loss import NonFinite
from gaptune.trial.model import Clip

_BATCH = 512

Progress = Callable[[], None]
"""Called for each step of long work, so that somebody who watches knows that it moves."""


def silent() -> None:
    """A ``Progress`` that tells nobody."""


class Evaluator:
    """Scores a model on a store's validation split and, where it has labels, by zero-shot and linear probe.

    Args:
        store: The data.
        device: Of the model.
        precision: ``fp32``, or ``bf16`` for autocast.
        progress: Called after each batch.

    Raises:
        UserError: There is a single validation image, or probe images have no labels, or a single class.
    """

    def __init__(self, store: Store, device: torch.device, precision: str, progress: Progress = silent) -> None:
        probes = own_probes(store)
        self._store = store
        self._progress = progress
        self._device = device
        self._precision = precision
        self._val = store.split("val")
        counts = np.diff(self._val.offsets)
        self._owner = torch.from_numpy(np.repeat(np.arange(len(self._val)), counts)).to(device)
        self._probes: dict[str, tuple[Split, Tensor]] = {}
        for name, split in probes.items():
            assert split.labels is not None  # checked by own_probes
            self._probes[name] = split, torch.from_numpy(split.labels).to(device)

    def __call__(self, model: Clip) -> dict[str, float]:
        """All scores of ``gaptune.metrics.table`` that come from embeddings.

        Raises:
            NonFinite: A feature is not finite.
        """
        with evaluating(model):
            features = Features(model, self._device, self._precision, self._progress)
            scores = score_pairs(features.images(self._val), features.texts(self._val.tokens), self._owner)
            if self._probes:
                scores |= self._classification(features)
        return scores

    def sample(self, model: Clip, most: int = 64) -> tuple[Tensor, Tensor]:
        """Features of some validation pairs, evenly spaced, each image with its first caption: two of shape (n, d)."""
        rows = np.unique(np.linspace(0, len(self._val) - 1, min(most, len(self._val))).astype(np.int64))
        with evaluating(model):
            features = Features(model, self._device, self._precision, self._progress)
            tokens = self._val.tokens[self._val.offsets[rows]]
            return features.images(self._val, rows), features.texts(tokens)

    def _classification(self, features: Features) -> dict[str, float]:
        classes = features.classes(self._store.meta)
        train, train_labels = self._probes["probe_train"]
        test, test_labels = self._probes["probe_test"]
        train_images, test_images = features.images(train), features.images(test)
        return {
            "zeroshot/accuracy": zero_shot(test_images, classes, test_labels),
            "probe/accuracy": linear_probe(train_images, train_labels, test_images, test_labels),
        }


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
