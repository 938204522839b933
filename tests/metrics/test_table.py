from __future__ import annotations

import math
import re
import sys
from types import ModuleType

import pytest
import torch
from sphere import unit
from torch import Tensor

from gaptune.metrics.classification import zero_shot
from gaptune.metrics.embeddings import embedding_metrics
from gaptune.metrics.retrieval import recalls
from gaptune.metrics.table import EMBEDDING_GROUPS, METRICS, TASK_METRICS, Metric, excess, find_metric, metrics_of

ROWS = {**METRICS, **TASK_METRICS}


def test_table_is_keyed_by_name() -> None:
    assert all(metric.name == name for name, metric in ROWS.items())


@pytest.mark.parametrize("metric", ROWS.values(), ids=ROWS)
def test_metric_is_fully_described(metric: Metric) -> None:
    assert re.fullmatch(r"[a-z]+/[a-z0-9_]+", metric.name)
    assert re.fullmatch(r"[A-Za-z0-9_\-. :/]+", metric.name)  # MLflow's rule for the names of metrics
    assert metric.direction in ("max", "min", "none")
    assert metric.unit
    assert metric.meaning
    assert metric.source


def test_searched_metrics_have_their_direction() -> None:
    directions = {name: metric.direction for name, metric in METRICS.items()}
    assert directions["geometry/gap"] == "min"
    assert directions["uniformity/w2"] == "max"
    assert directions["uniformity/wang_isola"] == "min"
    assert {directions[f"retrieval/{way}_r{k}"] for way in ("i2t", "t2i", "mean") for k in (1, 5, 10)} == {"max"}
    assert directions["temperature/tau"] == "none"


def test_no_name_is_also_a_group() -> None:
    # a name that is also another's group would be a file and a folder at once in a store of files
    groups = {name.split("/")[0] for name in METRICS}
    assert not groups & set(METRICS)
    assert len({name.lower() for name in METRICS}) == len(METRICS)


def test_task_metric_is_found_after_any_name_of_an_evaluation() -> None:
    for name, metric in TASK_METRICS.items():
        found = find_metric(f"flowers/{name}")
        assert found is not None
        assert (found.name, found.direction, found.unit) == (f"flowers/{name}", metric.direction, metric.unit)
    for name in ("zeroshot/top5", "/zeroshot/top1", "a/zeroshot", "a/b/zeroshot/top1", "a/geometry/gap"):
        assert find_metric(name) is None
    assert all(find_metric(name) is metric for name, metric in METRICS.items())


def test_metric_measured_on_own_and_on_further_data_has_one_row() -> None:
    both = METRICS.keys() & TASK_METRICS.keys()
    assert {"zeroshot/top1", "probe/top1", "retrieval/i2t_r1"} <= both
    assert all(METRICS[name] is TASK_METRICS[name] for name in both)


def embeddings() -> tuple[Tensor, Tensor, Tensor]:
    owner = torch.arange(12).repeat_interleave(2)
    return unit(12, 8, 1), unit(24, 8, 2), owner


def test_rows_of_the_embedding_groups_are_what_is_computed() -> None:
    expected = {name for name in METRICS if name.partition("/")[0] in EMBEDDING_GROUPS}
    assert set(embedding_metrics(*embeddings())) == expected


def test_rows_of_the_tasks_are_what_is_computed() -> None:
    labels = torch.arange(12) % 3
    images, texts, owner = embeddings()
    computed = {
        "zeroshot": zero_shot(images, unit(3, 8, 3), labels),
        "retrieval": recalls(images, texts, owner),
    }
    for task, values in computed.items():
        assert set(values) == set(metrics_of((task,)))  # type: ignore[arg-type]


def test_new_group_of_metrics_needs_its_module_and_the_table_only(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("gaptune.metrics.overlap")
    module.measure = lambda found: {"overlap/mean": float((found.images * found.paired).sum(1).mean())}  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr("gaptune.metrics.embeddings.EMBEDDING_GROUPS", (*EMBEDDING_GROUPS, "overlap"))
    assert -1 <= embedding_metrics(*embeddings())["overlap/mean"] <= 1


@pytest.mark.parametrize(
    ("value", "low", "high", "expected"),
    [
        (0.5, 0.2, 0.8, -0.3),
        (0.1, 0.2, 0.8, 0.1),
        (1.0, None, 0.8, 0.2),
        (0.07000000067, None, 0.07, 0.0),
        (-4.0000001, -4.0, None, 0.0),
        (1e-9, None, 0.0, 1e-9),
        (math.inf, 0.0, 1.0, math.inf),
    ],
)
def test_bound_is_missed_by_more_than_rounding(value: float, low: float, high: float, expected: float) -> None:
    assert excess(value, low, high) == pytest.approx(expected, rel=1e-12)
    assert math.isnan(excess(math.nan, low, high))
