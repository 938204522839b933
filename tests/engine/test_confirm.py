"""The front again on fresh seeds."""

import sys
import time
from dataclasses import replace

import pytest
from support import Stage, write_yaml

from gaptune.cli import main
from gaptune.engine.confirm import confirmation
from gaptune.errors import UserError
from gaptune.ledger import State, load
from gaptune.results import candidates
from gaptune.results.stability import front_fractions


@pytest.fixture
def searched(tmp_path, small_features):
    """A sweep as its ledger has it: two of three on the front. Nothing has been trained for it."""
    from gaptune.config import load_sweep_config

    _, config = write_yaml(tmp_path, small_features)
    stage = Stage(tmp_path / "results" / "found", sweep=load_sweep_config(config))
    stage.record.header = replace(stage.record.header, name="found")
    for recall, uniformity in ((0.5, -1.0), (0.2, -0.5), (0.3, -2.0)):
        trial = stage.orchestrator.next_trial()
        stage.orchestrator.started(trial.number, "here")
        for epoch in (1, 2):
            scores = {"retrieval/mean_r10": recall, "uniformity/wang_isola": uniformity}
            stage.orchestrator.reported(trial.number, epoch, epoch, scores)
    return stage.record, tmp_path / "results"


def test_plan_has_the_fronts_params_and_new_seeds(searched):
    record, results = searched
    plan = confirmation(record, seeds=3, results=results, now=0.0, command="")
    assert plan.name == "found-confirm-3"
    assert list(plan.space.points_to_evaluate) == [record.trials[0].params, record.trials[2].params]
    assert plan.num_candidates == 2
    assert plan.sweep.search.seeds == 3
    assert plan.sweep.seed > max(trial.config["seed"] for trial in record.trials.values())
    assert plan.sweep.early_stopping.method == "none"


def test_an_empty_front_is_refused(tmp_path):
    stage = Stage(tmp_path / "s")
    with pytest.raises(UserError, match="front of 's' is empty"):
        confirmation(stage.record, seeds=2, results=tmp_path, now=0.0, command="")


def test_confirm_retrains_the_front_and_shows_what_remains_on_it(
    tmp_path, small_features, local_ray, monkeypatch, capsys
):
    space, config = write_yaml(tmp_path, small_features, trials=3)

    def gaptune(*words):
        monkeypatch.setattr(sys, "argv", ["gaptune", *map(str, words), "--results", str(tmp_path / "r")])
        with pytest.raises(SystemExit) as stop:
            main()
        out = capsys.readouterr().out
        assert stop.value.code == 0, out
        return out

    gaptune("sweep", space, "--config", config, "--name", "s")
    out = gaptune("confirm", "s", "--seeds", 2)
    record = load(tmp_path / "r" / "s-confirm-2")
    found = candidates(record)
    assert all(trial.state is State.COMPLETE for trial in record.trials.values())
    assert {trial.config["seed"] for trial in record.trials.values()} == {1, 2}
    assert "±" in out
    assert "on front" in out
    for fraction in front_fractions(record, found):
        assert f"{fraction:.0%}" in out
    again = gaptune("confirm", "s", "--seeds", 2)  # nothing is left to do
    assert load(tmp_path / "r" / "s-confirm-2").trials == record.trials
    assert "on front" in again


def test_confirmation_is_resumed_when_the_front_has_grown(searched):
    record, results = searched
    first = confirmation(record, seeds=2, results=results, now=time.time(), command="")
    from gaptune.ledger import Ledger

    with Ledger(first.folder) as ledger:
        ledger.append(first.header.event)
    record.trials[1].reports[-1].metrics["retrieval/mean_r10"] = 0.9
    second = confirmation(record, seeds=2, results=results, now=time.time(), command="")
    assert list(second.space.points_to_evaluate)[:2] == list(first.space.points_to_evaluate)
    assert list(second.space.points_to_evaluate)[2:] == [record.trials[1].params]
    assert second.sweep.seed == first.sweep.seed
