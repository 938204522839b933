"""A model's features of stored data, and its scores on held-out data of the kind that it was trained on."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from gaptune.data import Split, Store
from gaptune.data.tasks import own_probes
from gaptune.metrics.classification import linear_probe, zero_shot
from gaptune.metrics.embeddings import embedding_metrics
from gaptune.trial.embed import Features, Progress, evaluating, silent
from gaptune.trial.model import Clip


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
            scores = embedding_metrics(features.images(self._val), features.texts(self._val.tokens), self._owner)
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
            "zeroshot/top1": zero_shot(test_images, classes, test_labels),
            "probe/top1": linear_probe(train_images, train_labels, test_images, test_labels),
        }
