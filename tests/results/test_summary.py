"""What is read out of a ledger: front, hypervolume, table, plot, files."""

import math

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from rich.console import Console
from support import Stage, sweep_config

from gaptune.console.tables import front_table, short
from gaptune.ledger import State, load
from gaptune.results import summarize
from gaptune.results.export import frame, write_parquet
from gaptune.results.plots.front import plot_front
from gaptune.storage.bundled import example


def finish(stage, recall, gap):
    trial = stage.orchestrator.next_trial()
    stage.orchestrator.started(trial.number, "here")
    for epoch in (1, 2):
        scores = {"retrieval/mean_r1": recall * epoch / 2, "geometry/gap": gap, "temperature/tau": 0.07}
        stage.orchestrator.reported(trial.number, epoch, epoch, scores)


@pytest.fixture
def stage(tmp_path):
    stage = Stage(tmp_path / "s")
    for recall, gap in ((0.2, 0.2), (0.6, 1.0), (0.1, 0.4), (0.4, 0.5)):
        finish(stage, recall, gap)
    stage.orchestrator.next_trial()
    stage.orchestrator.failed(4, "exception: x")
    stage.orchestrator.next_trial()
    return stage


def text_of(renderable, width=160):
    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    console.print(renderable)
    return console.export_text()


def test_the_front_is_not_dominated_and_sorted_by_the_first_objective(stage):
    summary = summarize(stage.record)
    assert [one.trial.number for one in summary.front] == [1, 3, 0]
    assert summary.counts == {State.WAITING: 1, State.COMPLETE: 4, State.FAIL: 1}


def test_the_hypervolume_uses_the_reference_and_ideal_point_of_the_config(stage):
    # recall from 0 to 1 and gap from 2 down to 0: the box has volume 2
    boxes = [(0.6, 2 - 1.0), (0.4, 2 - 0.5), (0.2, 2 - 0.2)]
    expected = 0.6 * 1.0 + 0.4 * 0.5 + 0.2 * 0.3
    assert boxes[0][0] * boxes[0][1] == 0.6
    assert math.isclose(summarize(stage.record).hypervolume, expected / 2)


def test_a_sweep_without_completed_trials_says_so(tmp_path):
    stage = Stage(tmp_path)
    summary = summarize(stage.record)
    assert summary.front == []
    assert summary.hypervolume is None
    assert "has no front: no candidate is complete (trials: none yet)" in text_of(front_table(stage.record, summary))


def test_the_table_shows_objectives_gap_tau_params_and_method(stage):
    text = text_of(front_table(stage.record, summarize(stage.record)))
    for part in (
        "mean_r1 ↑",
        "gap ↓",
        "tau",
        "tau_start",
        "schedule",
        "FLT",
        "4 COMPLETE",
        "1 FAIL",
        "hypervolume 0.",
    ):
        assert part in text
    assert "2.000" not in text


def test_numbers_are_short_and_a_missing_value_is_a_dot():
    assert [short(value) for value in (None, 0.5, 0.00123, 3, "x", 0.0)] == [
        "·",
        "0.500",
        "0.00123",
        "3",
        "x",
        "0.000",
    ]


def test_the_plot_has_every_trial_and_marks_the_front(stage, tmp_path):
    plot_front(stage.record, summarize(stage.record), tmp_path / "front.png")
    pixels = np.asarray(Image.open(tmp_path / "front.png").convert("RGB"))
    assert min(pixels.shape[:2]) > 400
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 20


def test_three_objectives_make_three_panels(tmp_path):
    more = sweep_config().model_dump(mode="json")["objectives"]
    more.append({"metric": "temperature/tau", "direction": "max", "reference": 0.0, "ideal": 1.0})
    stage = Stage(tmp_path / "s", sweep=sweep_config(objectives=more))
    for recall, gap in ((0.2, 0.2), (0.6, 1.0)):
        finish(stage, recall, gap)
    summary = summarize(stage.record)
    assert len(summary.front) == 2
    plot_front(stage.record, summary, tmp_path / "front.png")
    width, height = Image.open(tmp_path / "front.png").size
    assert width > 3 * height


def test_every_report_is_a_row(stage, tmp_path):
    table = frame(stage.record)
    assert len(table) == 4 * 2 + 2
    assert set(table["state"]) == {"COMPLETE", "FAIL", "WAITING"}
    row = table[(table.trial == 1) & (table.epoch == 2)].iloc[0]
    assert (row["retrieval/mean_r1"], row["geometry/gap"]) == (0.6, 1.0)
    write_parquet(stage.record, tmp_path / "results.parquet")
    back = pd.read_parquet(tmp_path / "results.parquet")
    assert list(back.columns) == list(table.columns)
    assert np.array_equal(back["retrieval/mean_r1"].to_numpy(), table["retrieval/mean_r1"].to_numpy(), equal_nan=True)


def test_in_a_narrow_terminal_params_are_in_one_column_and_no_heading_is_broken():
    record = load(example())
    table = front_table(record, summarize(record))
    narrow, wide = text_of(table, width=80), text_of(table, width=160)
    assert {"mean_r1", "wang_isola", "gap", "tau", "params"} <= set(narrow.split())
    assert "schedule linear," in narrow
    assert max(map(len, narrow.splitlines())) <= 80
    assert {"schedule", "tau_start", "tau_end", "schedule_fraction"} <= set(wide.split())
