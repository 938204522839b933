from __future__ import annotations

import math
import re

import pytest

from gaptune.metrics.table import METRICS, TASK_METRICS, Metric, excess, find_metric


def test_table_is_keyed_by_name() -> None:
    assert all(score.name == name for name, score in METRICS.items())


@pytest.mark.parametrize("score", METRICS.values(), ids=METRICS)
def test_a_score_is_fully_described(score: Metric) -> None:
    assert re.fullmatch(r"[a-z]+/[a-z0-9_]+", score.name)
    assert re.fullmatch(r"[A-Za-z0-9_\-. :/]+", score.name)  # MLflow's rule for the names of metrics
    assert score.direction in ("max", "min", "none")
    assert score.unit
    assert score.meaning
    assert score.source


def test_what_a_trial_is_searched_for_is_there_with_its_direction() -> None:
    directions = {name: score.direction for name, score in METRICS.items()}
    assert directions["geometry/gap"] == "min"
    assert directions["uniformity/w2"] == "max"
    assert directions["uniformity/wang_isola"] == "min"
    assert {directions[f"retrieval/{way}_r{k}"] for way in ("i2t", "t2i", "mean") for k in (1, 5, 10)} == {"max"}
    assert directions["temperature/tau"] == "none"


def test_names_are_taken_once_by_group() -> None:
    # a name that is also another's group would be a file and a folder at once in a store of files
    groups = {name.split("/")[0] for name in METRICS}
    assert not groups & set(METRICS)
    assert len({name.lower() for name in METRICS}) == len(METRICS)


def test_a_measure_is_found_after_any_evaluations_name() -> None:
    for name, measure in TASK_METRICS.items():
        found = find_metric(f"flowers/{name}")
        assert found is not None
        assert (found.name, found.direction, found.unit) == (f"flowers/{name}", measure.direction, measure.unit)
    assert [find_metric(name) for name in ("zeroshot/top1", "/zeroshot/top1", "a/zeroshot", "a/b/zeroshot/top1")] == (
        [None] * 4
    )
    assert all(find_metric(name) is score for name, score in METRICS.items())


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
def test_a_bound_is_missed_by_more_than_rounding(value: float, low: float, high: float, expected: float) -> None:
    assert excess(value, low, high) == pytest.approx(expected, rel=1e-12)
    assert math.isnan(excess(math.nan, low, high))
