"""A model's scores on other data than it was trained on."""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import get_args

import numpy as np
import torch
from torch import Tensor

from gaptune.data import Split, Store
from gaptune.data.tokens import tokenize
from gaptune.errors import UserError
from gaptune.metrics import knn_accuracy, pair_accuracy, probe_with_selection, recall_hits, zero_shot_topk
from gaptune.scores import Task
from gaptune.trial.evaluate import Features, Progress, evaluating, silent
from gaptune.trial.model import Clip

TASKS: tuple[Task, ...] = get_args(Task)
_TRAIN, _TEST = ("probe_train", "train"), ("probe_test", "test", "val")
_CAPTIONED = ("test", "val")

_log = logging.getLogger(__name__)


def allowed_tasks(store: Store) -> tuple[Task, ...]:
    """What a store allows to evaluate by, without ``pairs``: no store says that its rows are pairs."""
    return tuple(task for task in TASKS if task != "pairs" and not _lacking(store, task))


class Suite:
    """Scores a model by some tasks on a store.

    Classification is tested on ``probe_test``, ``test`` or ``val`` (the first that has labels) and fitted on
    ``probe_train`` or ``train``; retrieval and pairs take ``test`` or ``val`` (the first whose captions are not mere
    labels). For ``pairs``, rows 2k and 2k + 1 are the images of a pair, with a caption each.

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
            if lacking := _lacking(store, task):
                raise UserError(f"{store.path} cannot be evaluated by {task}: it has {lacking}")
        self._store = store
        self._tasks = tasks
        self._device = device
        self._precision = precision
        self._progress = progress
        self._warned = False

    def __call__(self, model: Clip) -> dict[str, Tensor]:
        """What each example counts, by the names of ``gaptune.scores.MEASURES``; the mean is the score.

        Raises:
            NonFinite: A feature is not finite.
        """
        if "zeroshot" in self._tasks:
            self._warn_of_unknown_classes(model)
        with evaluating(model):
            features = Features(model, self._device, self._precision, self._progress)
            values: dict[str, Tensor] = {}
            if {"zeroshot", "probe", "knn"} & set(self._tasks):
                values |= self._classification(features)
            if {"retrieval", "pairs"} & set(self._tasks):
                values |= self._captions(features)
        return values

    def _classification(self, features: Features) -> dict[str, Tensor]:
        test, labels = self._labelled(_TEST)
        images = features.images(test)
        values: dict[str, Tensor] = {}
        if "zeroshot" in self._tasks:
            values |= zero_shot_topk(images, features.classes(self._store.meta), labels)
        if {"probe", "knn"} & set(self._tasks):
            train, train_labels = self._labelled(_TRAIN)
            known = features.images(train), train_labels
            if "probe" in self._tasks:
                values["probe_top1"] = probe_with_selection(*known, images, labels)
            if "knn" in self._tasks:
                values["knn_top1"] = knn_accuracy(*known, images, labels)
        return values

    def _captions(self, features: Features) -> dict[str, Tensor]:
        split = _first(self._store, _CAPTIONED, labelled=False)
        assert split is not None  # checked at the start
        images, texts = features.images(split), features.texts(split.tokens)
        values: dict[str, Tensor] = {}
        if "retrieval" in self._tasks:
            owner = torch.from_numpy(np.repeat(np.arange(len(split)), np.diff(split.offsets)))
            values |= recall_hits(images, texts, owner.to(self._device))
        if "pairs" in self._tasks:
            values["pairs_accuracy"] = pair_accuracy(images, texts)
        return values

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
        split = _first(self._store, names, labelled=True)
        assert split is not None  # checked at the start
        assert split.labels is not None
        return split, torch.from_numpy(split.labels).to(self._device)


def _lacking(store: Store, task: Task) -> str:
    """What a store lacks for a task; empty if nothing."""
    if task in ("retrieval", "pairs"):
        split = _first(store, _CAPTIONED, labelled=False)
        if split is None:
            return "no images with captions of their own in test or val"
        if task == "pairs" and (len(split) % 2 or len(split.tokens) != len(split)):
            return f"{len(split)} images with {len(split.tokens)} captions, not pairs with a caption each"
        return ""
    if not store.meta.classes:
        return "no classes"
    if _first(store, _TEST, labelled=True) is None:
        return f"no labelled images in {', '.join(_TEST)}"
    if task != "zeroshot" and _first(store, _TRAIN, labelled=True) is None:
        return f"no labelled images in {', '.join(_TRAIN)}"
    return ""


def _first(store: Store, names: tuple[str, ...], *, labelled: bool) -> Split | None:
    splits = (store.split(name) for name in names if name in store)
    return next((split for split in splits if (split.labels is not None) == labelled), None)
