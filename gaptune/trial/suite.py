"""A model's scores on other data than it was trained on."""

from __future__ import annotations

import logging
from collections.abc import Collection

import numpy as np
import torch
from torch import Tensor

from gaptune.data import Split, Store
from gaptune.data.tasks import FITTED, TESTED, captioned, labelled, lacking, paired
from gaptune.data.tokens import tokenize
from gaptune.errors import UserError
from gaptune.metrics.classification import knn_accuracy, probe_with_selection, zero_shot_topk
from gaptune.metrics.intervals import Outcomes
from gaptune.metrics.mmvp import pair_accuracy
from gaptune.metrics.retrieval import recall_hits
from gaptune.metrics.table import Task
from gaptune.trial.embed import Features, Progress, evaluating, silent
from gaptune.trial.model import Clip

_log = logging.getLogger(__name__)


class Suite:
    """Scores a model by some tasks on a store.

    Classification is tested on ``probe_test``, ``test`` or ``val``, fitted on ``probe_train`` or ``train``; retrieval
    takes ``test`` or ``val``, and so does ``mmvp`` where there is no split ``pairs``: the first that the store has, and
    no other where it does not fit. Rows 2k and 2k + 1 are the images of a pair, with a caption each.

    Args:
        store: The data.
        tasks: Which.
        device: Of the model.
        precision: ``fp32``, or ``bf16`` for autocast.
        progress: Called after each batch.

    Raises:
        UserError: The store does not allow a task.
    """

    def __init__(
        self,
        store: Store,
        tasks: Collection[Task],
        device: torch.device,
        precision: str = "fp32",
        progress: Progress = silent,
    ) -> None:
        for task in tasks:
            if what := lacking(store, task):
                raise UserError(f"{store.path} cannot be evaluated by {task}: it has {what}")
        self._store = store
        self._tasks = tasks
        self._device = device
        self._precision = precision
        self._progress = progress
        self._warned = False

    def __call__(self, model: Clip) -> dict[str, Outcomes]:
        """What each example counts, by the names of ``gaptune.metrics.table.TASK_METRICS``.

        Raises:
            NonFinite: A feature is not finite.
        """
        if "zeroshot" in self._tasks:
            self._warn_of_unknown_classes(model)
        with evaluating(model):
            features = Features(model, self._device, self._precision, self._progress)
            values: dict[str, Outcomes] = {}
            if {"zeroshot", "probe", "knn"} & set(self._tasks):
                values |= self._classification(features)
            if "retrieval" in self._tasks:
                values |= self._retrieval(features)
            if "mmvp" in self._tasks:
                split = paired(self._store)
                assert split is not None  # checked at the start
                values["mmvp/accuracy"] = Outcomes(pair_accuracy(features.images(split), features.texts(split.tokens)))
        return values

    def _classification(self, features: Features) -> dict[str, Outcomes]:
        test, labels = self._labelled(TESTED)
        images = features.images(test)
        values: dict[str, Outcomes] = {}
        if "zeroshot" in self._tasks:
            values |= zero_shot_topk(images, features.classes(self._store.meta), labels)
        if {"probe", "knn"} & set(self._tasks):
            train, train_labels = self._labelled(FITTED)
            known = features.images(train), train_labels
            if "probe" in self._tasks:
                values["probe/top1"] = Outcomes(probe_with_selection(*known, images, labels))
            if "knn" in self._tasks:
                values["knn/top1"] = Outcomes(knn_accuracy(*known, images, labels))
        return values

    def _retrieval(self, features: Features) -> dict[str, Outcomes]:
        split = captioned(self._store)
        assert split is not None  # checked at the start
        owner = torch.from_numpy(np.repeat(np.arange(len(split)), np.diff(split.offsets)))
        return recall_hits(features.images(split), features.texts(split.tokens), owner.to(self._device))

    def _warn_of_unknown_classes(self, model: Clip) -> None:
        names = self._store.meta.classes
        tokens = torch.from_numpy(tokenize(names, model.context_length).astype(np.int64)).to(self._device)
        unknown = [name for name, bad in zip(names, model.unknown(tokens).any(1).tolist(), strict=True) if bad]
        if unknown and not self._warned:
            shown = ", ".join(unknown[:3]) + (", …" if len(unknown) > 3 else "")
            _log.warning(
                "%d of %d classes have words that the model's vocabulary lacks (%s); zero-shot cannot find them",
                *(len(unknown), len(names), shown),
            )
        self._warned = True

    def _labelled(self, names: tuple[str, ...]) -> tuple[Split, Tensor]:
        split = labelled(self._store, names)
        assert split is not None  # checked at the start
        assert split.labels is not None
        return split, torch.from_numpy(split.labels).to(self._device)
