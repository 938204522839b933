"""Recorded curves: writing, reading, and the nearest trial."""

import pytest
from support import SPACE, Stage

from gaptune.errors import UserError
from gaptune.simulation.curves import Curves, write_curves
from gaptune.space.parse import parse_space


@pytest.fixture
def example(tmp_path):
    stage = Stage(tmp_path / "s")
    for recall in (0.2, 0.4, 0.6):
        stage.finish(stage.orchestrator.next_trial().number, recall=recall)
    unfinished = stage.orchestrator.next_trial()
    stage.orchestrator.started(unfinished.number, "here")
    path = tmp_path / "curves.parquet"
    assert write_curves(stage.record, path, {"command": "x"}) == 3
    return stage.record, path


def test_written_curves_are_read_unchanged(example):
    record, path = example
    curves = Curves.read(path, SPACE)
    assert len(curves) == 3
    for number in range(3):
        (first, second) = curves(record.trials[number])
        assert first["retrieval/mean_r1"] == pytest.approx(record.trials[number].last["retrieval/mean_r1"])
        assert second["geometry/gap"] == pytest.approx(1.0)


def test_curves_of_a_different_space_are_refused(example):
    other = parse_space({"params": {"temperature.tau_start": {"log_uniform": [0.5, 0.9]}}})
    with pytest.raises(UserError, match="a different search space"):
        Curves.read(example[1], other)


def test_nearest_trial_uses_the_logarithmic_scale_and_the_same_choice():
    def place(schedule, start, end=None):
        params = {"temperature.schedule": schedule, "temperature.tau_start": start}
        return params if end is None else {**params, "temperature.tau_end": end}

    known = [place("constant", 0.01), place("constant", 0.2), place("linear", 0.05, 0.05)]
    curves = Curves(SPACE, known, [[], [], []])
    assert curves.nearest(place("constant", 0.04)) == 0  # 0.045 is halfway between 0.01 and 0.2
    assert curves.nearest(place("constant", 0.05)) == 1
    assert curves.nearest(place("linear", 0.2, 0.2)) == 2
