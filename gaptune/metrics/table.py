"""The one table of everything that gaptune measures: name, unit, direction, source.

Whatever is reported by a trial, written to the ledger and shown in MLflow has its row here. Names are
``group/name``, which MLflow accepts and shows as groups. On further data the name of the evaluation comes first:
``cifar10/zeroshot/top1`` has the row of ``zeroshot/top1``.

A new metric takes two changes: the function that computes it, among those of its group, and a row here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

ROUNDING = 2e-6
"""Relative: what float32 leaves of the logarithm of a temperature between 1e-6 and 1e6, and of most metrics."""

Direction = Literal["max", "min", "none"]
Task = Literal["zeroshot", "probe", "knn", "retrieval", "mmvp"]
"""Tasks on further data; each is the group of its metrics."""

EMBEDDING_GROUPS = ("geometry", "uniformity", "retrieval")
"""Groups that are computed from the embeddings of the validation pairs: each by the function ``measure`` of the module
``gaptune.metrics.GROUP``."""


@dataclass(frozen=True)
class Metric:
    """One measured quantity.

    Attributes:
        name: ``group/name``.
        unit: Unit or range, for axes and tables.
        direction: Direction of better values; ``none`` for a description.
        meaning: One line for a person.
        source: The paper, equation or convention that defines it.
        data: Data that it is measured on: the trial's own, further data, or both.
    """

    name: str
    unit: str
    direction: Direction
    meaning: str
    source: str
    data: Literal["own", "further", "both"] = "own"


_YCWQ = "Yaras et al. 2024, arXiv 2412.07909"
_FANG = "Fang et al. 2024, Rethinking the Uniformity Metric"
_WANG = "Wang & Isola 2020, arXiv 2005.10242"
_CLIP = "Radford et al. 2021, arXiv 2103.00020"
_BENCHMARK = "clip_benchmark"
_ZERO_SHOT = f"{_CLIP}; {_BENCHMARK}"
_WU = "Wu et al. 2018, arXiv 1805.01978"
_KARPATHY = "Karpathy & Fei-Fei 2015, as in CLIP_benchmark"

_RECALLS = tuple(
    Metric(
        f"retrieval/{way}_r{k}",
        "fraction",
        "max",
        f"{meaning} among the best {k}",
        _KARPATHY,
        "own" if way == "mean" else "both",
    )
    for way, meaning in (
        ("i2t", "images with any of their captions"),
        ("t2i", "captions with their image"),
        ("mean", "mean of i2t and t2i: the right one"),
    )
    for k in (1, 5, 10)
)

_Row = tuple[str, Direction, str, str]  # unit, direction, meaning, source
_W2: _Row = ("-W2, at most 0", "max", "minus the 2-Wasserstein distance to N(0, I/d)", _FANG)
_POTENTIAL: _Row = ("log, -4 to 0", "min", "log mean Gaussian potential (t = 2)", _WANG)


def _uniformities(name: str, row: _Row) -> tuple[Metric, ...]:
    unit, direction, meaning, source = row
    parts = {"": "image and text features together", "_image": "image features", "_text": "text features"}
    return tuple(
        Metric(f"uniformity/{name}{suffix}", unit, direction, f"{meaning} of {of}", source)
        for suffix, of in parts.items()
    )


_ROWS = (
    Metric("geometry/gap", "distance, 0 to 2", "min", "modality gap Δ = ||mean(H_X) - mean(H_Y)||", _YCWQ),
    Metric("geometry/alignment", "squared distance", "min", "mean ||x - y||² over matched pairs", _WANG),
    Metric("geometry/margin", "cosine", "max", "matched cosine minus the best other cosine", _YCWQ),
    Metric("geometry/mismatched", "fraction", "min", "pairs whose best match is another pair", _YCWQ),
    *_uniformities("w2", _W2),
    *_uniformities("wang_isola", _POTENTIAL),
    *_RECALLS,
    Metric(
        "zeroshot/top1", "fraction", "max", "top-1 by class prompts, mean over images", f"{_CLIP}; {_BENCHMARK}", "both"
    ),
    Metric("zeroshot/top5", "fraction", "max", "the right class among the best 5", f"{_CLIP}; {_BENCHMARK}", "further"),
    Metric(
        "zeroshot/mean_per_class_recall",
        "fraction",
        "max",
        "top-1 by class prompts, mean over classes",
        _BENCHMARK,
        "further",
    ),
    Metric(
        "probe/top1",
        "fraction",
        "max",
        "logistic regression on image features (own data: C = 100; further data: C chosen on a held-out part)",
        f"{_CLIP}, A.3",
        "both",
    ),
    Metric("knn/top1", "fraction", "max", "20 nearest neighbors by cosine", _WU, "further"),
    Metric(
        "mmvp/accuracy",
        "fraction",
        "max",
        "pairs with both captions nearer to their own image",
        "Tong et al. 2024 (MMVP-VLM)",
        "further",
    ),
    Metric("temperature/tau", "1", "none", "temperature τ = 1/β", _CLIP),
    Metric("temperature/beta", "1", "none", "logit scale β", _CLIP),
    Metric("train/loss", "nats", "min", "symmetric cross entropy, mean over the epoch", _CLIP),
    Metric("train/lr", "1", "none", "learning rate at the end of the epoch", "torch.optim"),
    Metric("train/swapped_fraction", "fraction", "none", "steps of the epoch in which features were swapped", _YCWQ),
    Metric("time/train_s", "s", "none", "wall time of the epoch's training", "perf_counter"),
    Metric("time/eval_s", "s", "none", "wall time of the epoch's evaluation", "perf_counter"),
    Metric("time/samples_per_s", "1/s", "none", "training pairs per second", "perf_counter"),
)

METRICS = {row.name: row for row in _ROWS if row.data != "further"}
"""What a trial reports of its own data."""

TASK_METRICS = {row.name: row for row in _ROWS if row.data != "own"}
"""What the tasks of an evaluation on further data give, without the name of the evaluation."""

SYSTEM = {
    row.name: row
    for row in (
        Metric(
            "system/cpu_percent",
            "%",
            "none",
            "CPU time of the trial's process, which lanes share, over wall time (100: one core)",
            "psutil",
        ),
        Metric("system/memory_mb", "MB", "none", "resident memory of the trial's process, which lanes share", "psutil"),
        Metric(
            "system/gpu_percent",
            "%",
            "none",
            "fraction of the time in which the whole GPU was busy, with all its trials; not for MIG devices",
            "NVML (nvidia-ml-py)",
        ),
        Metric(
            "system/gpu_memory_mb",
            "MB",
            "none",
            "GPU memory that the trial's process holds, which lanes share",
            "torch.cuda",
        ),
    )
}
"""What ``resources: {system_metrics: true}`` adds: means over the epoch."""


def excess(value: float, low: float | None, high: float | None) -> float:
    """By how much a value is outside of its bounds; 0 or less within them, NaN for NaN.

    Metrics come out of float32: a bound that is missed by its rounding is met (a τ fixed at 0.07 is reported as
    0.07000000067).

    Args:
        value: The value.
        low: The least that is allowed; None for no such bound.
        high: The most that is allowed; None for no such bound.
    """
    if value != value:
        return value
    worst = -math.inf
    for side, bound in ((-1.0, low), (1.0, high)):
        if bound is not None:
            over = side * (value - bound)
            worst = max(worst, 0.0 if 0.0 < over <= ROUNDING * abs(bound) else over)
    return worst


def metrics_of(tasks: Iterable[Task]) -> tuple[str, ...]:
    """The names in ``TASK_METRICS`` that some tasks give."""
    wanted = set(tasks)
    return tuple(name for name in TASK_METRICS if name.partition("/")[0] in wanted)


def find_metric(name: str) -> Metric | None:
    """The row of a metric, after the name of an evaluation too; None if there is none."""
    evaluation, _, metric = name.partition("/")
    if name in METRICS or not evaluation or metric not in TASK_METRICS:
        return METRICS.get(name) or SYSTEM.get(name)
    return replace(TASK_METRICS[metric], name=name)
