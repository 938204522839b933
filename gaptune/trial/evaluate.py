"""Metrics of a model: on the trial's own data, and by tasks on further data."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from gaptune.config import EvaluationConfig
from gaptune.data import Split, Store
from gaptune.data.tasks import (
    FITTED,
    TESTED,
    captioned,
    labeled,
    lacking,
    other_features,
    own_probes,
    paired,
)
from gaptune.data.tokens import tokenize
from gaptune.errors import UserError
from gaptune.metrics.classification import knn_accuracy, linear_probe, probe_with_selection, zero_shot
from gaptune.metrics.embeddings import centered, embedding_metrics
from gaptune.metrics.intervals import Outcomes
from gaptune.metrics.mmvp import pair_accuracy
from gaptune.metrics.retrieval import recalls
from gaptune.metrics.table import Task
from gaptune.storage.outcomes import RetrievalOutcomes
from gaptune.trial.device import full_precision
from gaptune.trial.embed import Features, Progress, evaluating, silent
from gaptune.trial.encoder import DualEncoder
from gaptune.trial.ranks import ALONE, Ranks

_log = logging.getLogger(__name__)


class Where(NamedTuple):
    """How a model is run.

    Attributes:
        device: Device of the model.
        precision: ``bf16`` for autocast of the model; any other, and all metrics, are computed in full float32.
        progress: Called after each batch.
        ranks: The processes that have the model. All compute features; rank 0 computes metrics, and others get none.
    """

    device: torch.device
    precision: str = "fp32"
    progress: Progress = silent
    ranks: Ranks = ALONE

    def features(self, model: DualEncoder) -> Features:
        """The model's features of stored data."""
        return Features(model, *self)


class Evaluator:
    """Measures a model at each report: all of ``METRICS`` that come from embeddings, and the evaluations.

    Args:
        store: The trial's own data.
        further: Evaluations, with their data.
        where: Device and precision.

    Raises:
        UserError: There is a single validation image, or probe images have no labels, or a single class; or the data
            of an evaluation do not allow a task.
    """

    def __init__(self, store: Store, further: Sequence[tuple[EvaluationConfig, Store]], where: Where) -> None:
        self._store = store
        self._where = where
        self._probes = {name: _labels(split, where.device) for name, split in own_probes(store).items()}
        self._val = store.split("val")
        self._owner = _owner(self._val).to(where.device)
        self._further = [(each, TaskEvaluator(data, each.tasks, where)) for each, data in further]
        self._last: tuple[Tensor, Tensor] | None = None

    def __call__(self, model: DualEncoder, *, last: bool) -> dict[str, float]:
        """The metrics by name, those of an evaluation after the evaluation's name; none on a rank that is not 0.

        Args:
            model: The model.
            last: Whether the training has ended, for evaluations at the end. Features of the validation pairs are then
                kept for ``sample`` and ``outcomes``.

        Raises:
            NonFinite: A feature is not finite.
        """
        with evaluating(model):
            features = self._where.features(model)
            pairs = features.images(self._val), features.texts(self._val.texts)
            self._last = pairs if last else None
            metrics = {} if self._where.ranks.rank else embedding_metrics(*pairs, self._owner)
            if self._probes:
                metrics |= self._classification(features)
        for evaluation, evaluator in self._further:
            if last or evaluation.when == "epoch":
                metrics |= named_means(evaluation.name, evaluator(model))
        return metrics

    def sample(self, most: int = 64) -> tuple[Tensor, Tensor]:
        """Features of some validation pairs at the end, evenly spaced, each image with its first caption.

        Returns:
            Those of images and of texts, both of shape (n, d).
        """
        images, texts = self._pairs()
        rows = np.unique(np.linspace(0, len(self._val) - 1, min(most, len(self._val))).astype(np.int64))
        return images[rows], texts[self._val.offsets[rows]]

    def outcomes(self) -> RetrievalOutcomes | None:
        """What each validation image and caption counts in retrieval at the end, and metrics without modalities' means.

        None on a rank that is not 0.
        """
        images, texts = self._pairs()
        if self._where.ranks.rank:
            return None
        with full_precision():
            hits = recalls(images, texts, self._owner)
            return RetrievalOutcomes(
                captions=np.diff(self._val.offsets),
                right={name: outcomes.right.numpy() > 0 for name, outcomes in hits.items()},
                centered=embedding_metrics(centered(images), centered(texts), self._owner),
            )

    def _pairs(self) -> tuple[Tensor, Tensor]:
        assert self._last is not None, "the training has not ended"
        return self._last

    def _classification(self, features: Features) -> dict[str, float]:
        (train, train_labels), (test, test_labels) = self._probes["probe_train"], self._probes["probe_test"]
        train_images, test_images = features.images(train), features.images(test)
        classes = features.classes(self._store)
        if self._where.ranks.rank:
            return {}
        return {
            "zeroshot/top1": zero_shot(test_images, classes, test_labels)["zeroshot/top1"].mean(),
            "probe/top1": linear_probe(train_images, train_labels, test_images, test_labels),
        }


class TaskEvaluator:
    """Measures a model by some tasks on a store.

    Classification is tested on ``probe_test``, ``test`` or ``val``, fitted on ``probe_train`` or ``train``; retrieval
    takes ``test`` or ``val``, and so does ``mmvp`` where there is no split ``pairs``: the first that the store has, and
    no other where it does not fit. Rows 2k and 2k + 1 are the images of a pair, with a caption each.

    Args:
        store: The data.
        tasks: Tasks to evaluate by.
        where: Device and precision.

    Raises:
        UserError: The store does not allow a task.
    """

    def __init__(self, store: Store, tasks: Collection[Task], where: Where) -> None:
        for task in tasks:
            if what := lacking(store, task):
                raise UserError(f"{store.path} cannot be evaluated by {task}: it has {what}")
        self._store = store
        self._tasks = tasks
        self._where = where
        self._warned = False

    def __call__(self, model: DualEncoder) -> dict[str, Outcomes]:
        """What each example counts, by the names of ``gaptune.metrics.table.TASK_METRICS``; nothing if not on rank 0.

        Raises:
            NonFinite: A feature is not finite.
            UserError: The model does not take what the store holds.
        """
        if misfit := other_features(model.features, self._store):
            raise UserError(f"{self._store.path} cannot be evaluated: {misfit}")
        if "zeroshot" in self._tasks and model.features is None:
            self._warn_of_unknown_classes(model)
        with evaluating(model):
            features = self._where.features(model)
            values: dict[str, Outcomes] = {}
            if {"zeroshot", "probe", "knn"} & set(self._tasks):
                values |= self._classification(features)
            if "retrieval" in self._tasks:
                values |= self._retrieval(features)
            if "mmvp" in self._tasks:
                split = _there(paired(self._store))
                pairs = features.images(split), features.texts(split.texts)
                values |= {} if self._where.ranks.rank else {"mmvp/accuracy": Outcomes(pair_accuracy(*pairs))}
        return values

    def _classification(self, features: Features) -> dict[str, Outcomes]:
        test, labels = self._labeled(TESTED)
        images = features.images(test)
        values: dict[str, Outcomes] = {}
        if "zeroshot" in self._tasks:
            classes = features.classes(self._store)
            values |= {} if self._where.ranks.rank else zero_shot(images, classes, labels)
        if {"probe", "knn"} & set(self._tasks):
            train, train_labels = self._labeled(FITTED)
            known = features.images(train), train_labels
            if self._where.ranks.rank:
                return values
            if "probe" in self._tasks:
                values["probe/top1"] = Outcomes(probe_with_selection(*known, images, labels))
            if "knn" in self._tasks:
                values["knn/top1"] = Outcomes(knn_accuracy(*known, images, labels))
        return values

    def _retrieval(self, features: Features) -> dict[str, Outcomes]:
        split = _there(captioned(self._store))
        images, texts = features.images(split), features.texts(split.texts)
        return {} if self._where.ranks.rank else recalls(images, texts, _owner(split).to(self._where.device))

    def _warn_of_unknown_classes(self, model: DualEncoder) -> None:
        names = self._store.meta.classes
        tokens = torch.from_numpy(tokenize(names, model.context_length)).to(self._where.device)
        unknown = [name for name, bad in zip(names, model.unknown(tokens).any(1).tolist(), strict=True) if bad]
        if unknown and not self._warned and self._where.ranks.rank == 0:
            shown = ", ".join(unknown[:3]) + (", …" if len(unknown) > 3 else "")
            _log.warning(
                "%d of %d classes have words that the model's vocabulary lacks (%s); zero-shot cannot find them",
                *(len(unknown), len(names), shown),
            )
        self._warned = True

    def _labeled(self, names: tuple[str, ...]) -> tuple[Split, Tensor]:
        return _labels(_there(labeled(self._store, names)), self._where.device)


def named_means(evaluation: str, values: Mapping[str, Outcomes]) -> dict[str, float]:
    """The means of an evaluation's outcomes, named ``EVALUATION/METRIC``."""
    return {f"{evaluation}/{name}": outcomes.mean() for name, outcomes in values.items()}


def _owner(split: Split) -> Tensor:
    """The image of each caption."""
    return torch.from_numpy(np.repeat(np.arange(len(split)), np.diff(split.offsets)))


def _labels(split: Split, device: torch.device) -> tuple[Split, Tensor]:
    assert split.labels is not None  # checked at the start
    return split, torch.from_numpy(split.labels).to(device)


def _there(split: Split | None) -> Split:
    assert split is not None  # checked at the start
    return split
