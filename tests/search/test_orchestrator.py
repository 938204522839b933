"""The orchestrator and the study without Ray: drawing candidates, ending trials, recording events."""

import optuna
import pytest
from optuna.trial import TrialState
from support import SPACE, Stage, sweep_config

from gaptune.ledger import State, load, read_events, replay
from gaptune.results import summarize
from gaptune.space.parse import parse_space


@pytest.fixture
def stage(tmp_path):
    return Stage(tmp_path)


def test_points_are_drawn_first_in_order(stage):
    drawn = [stage.orchestrator.next_trial() for _ in range(6)]
    assert [trial.number for trial in drawn] == list(range(6))
    assert [trial.params for trial in drawn[:2]] == list(SPACE.points_to_evaluate)
    assert drawn[0].method == "FLT"
    assert drawn[0].config["temperature.tau_start"] == 0.04
    assert stage.orchestrator.next_trial() is None


def test_trial_is_complete_only_after_its_full_budget(stage):
    stage.orchestrator.next_trial()
    stage.orchestrator.started(0, "here")
    scores = {"retrieval/mean_r1": 0.5, "geometry/gap": 1.0}
    assert stage.orchestrator.reported(0, 1, 10, scores)
    assert stage.states() == [TrialState.RUNNING]
    assert not stage.orchestrator.reported(0, 2, 20, scores)
    assert stage.record.trials[0].state is State.COMPLETE
    (trial,) = stage.study.study.trials
    assert (trial.state, trial.values) == (TrialState.COMPLETE, [0.5, 1.0])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_non_finite_metric_fails_the_trial_and_is_named(stage, value):
    stage.orchestrator.next_trial()
    assert not stage.orchestrator.reported(0, 1, 10, {"retrieval/mean_r1": value, "geometry/gap": 1.0})
    assert stage.record.trials[0].state is State.FAIL
    assert stage.record.trials[0].reason == "non-finite: retrieval/mean_r1 after epoch 1"
    assert stage.states() == [TrialState.FAIL]


def test_missing_objective_fails_the_trial(stage):
    stage.orchestrator.next_trial()
    stage.orchestrator.reported(0, 1, 10, {"geometry/gap": 1.0})
    assert not stage.orchestrator.reported(0, 2, 20, {"geometry/gap": 1.0})
    assert stage.record.trials[0].reason == "objective not measured: retrieval/mean_r1"
    assert stage.states() == [TrialState.FAIL]


def test_failed_trial_has_a_reason_and_is_not_on_the_front(stage):
    for _ in range(3):
        stage.orchestrator.next_trial()
    stage.finish(0, recall=0.2)
    stage.finish(1, recall=0.6)
    stage.orchestrator.retried(2, "worker lost")
    stage.orchestrator.failed(2, "exception: ValueError: x")
    stage.orchestrator.failed(2, "again")
    trial = stage.record.trials[2]
    assert (trial.state, trial.reason, trial.retries) == (
        State.FAIL,
        "exception: ValueError: x",
        ["worker lost"],
    )
    assert [one.trial.number for one in summarize(stage.record).front] == [1]


def test_report_after_the_end_is_ignored(stage):
    stage.orchestrator.next_trial()
    stage.finish(0)
    assert not stage.orchestrator.reported(0, 3, 30, {"retrieval/mean_r1": 0.9, "geometry/gap": 0.1})
    assert stage.record.values(stage.record.trials[0]) == [0.5, 1.0]


def test_duplicate_report_after_a_restart_is_ignored(stage):
    stage.orchestrator.next_trial()
    scores = {"retrieval/mean_r1": 0.5, "geometry/gap": 1.0}
    assert stage.orchestrator.reported(0, 1, 10, scores)
    assert stage.orchestrator.reported(0, 1, 10, scores)
    assert sum(event["event"] == "report" for event in stage.heard) == 1


def test_incompatible_params_fail_without_a_worker(tmp_path):
    space = parse_space({"params": {"swap.start": {"choice": [0.25, 0.75]}, "swap.end": {"choice": [0.5, 1.0]}}})
    stage = Stage(tmp_path, space=space, num_candidates=12)
    drawn = []
    while (trial := stage.orchestrator.next_trial()) is not None:
        drawn.append(trial)
    failed = [trial for trial in stage.record.trials.values() if trial.state is State.FAIL]
    assert len(drawn) == 3  # three of the four combinations of the space, each once
    assert len(failed) == 1
    assert stage.orchestrator.exhausted
    assert all("must be less than end" in trial.reason for trial in failed)


def test_ledger_alone_restores_the_state(tmp_path):
    stage = Stage(tmp_path)
    for _ in range(4):
        stage.orchestrator.next_trial()
    stage.finish(0)
    stage.orchestrator.started(1, "here")
    stage.orchestrator.reported(1, 1, 10, {"retrieval/mean_r1": 0.5, "geometry/gap": 1.0})
    stage.orchestrator.failed(2, "why not")
    stage.orchestrator.close("interrupted")
    assert replay(read_events(tmp_path)[0]) == stage.record


def test_next_driver_resumes_unfinished_trials_and_loses_nothing(tmp_path):
    first = Stage(tmp_path)
    for _ in range(4):
        first.orchestrator.next_trial()
    first.finish(0)
    first.orchestrator.started(1, "here")
    first.orchestrator.failed(2, "broken")
    params = {number: trial.params for number, trial in first.record.trials.items()}
    first.ledger.close()

    second = Stage(tmp_path)
    expected = [TrialState.COMPLETE, TrialState.RUNNING, TrialState.FAIL, TrialState.RUNNING]
    assert second.states() == expected
    drawn = []
    while (trial := second.orchestrator.next_trial()) is not None:
        drawn.append(trial.number)
        second.finish(trial.number)
    assert drawn == [1, 3, 4, 5]
    assert {number: second.record.trials[number].params for number in params} == params
    assert second.states() == [TrialState.FAIL if n == 2 else TrialState.COMPLETE for n in range(6)]


def test_restart_before_points_are_drawn_draws_them(tmp_path):
    first = Stage(tmp_path)
    first.orchestrator.next_trial()
    first.ledger.close()
    second = Stage(tmp_path)
    drawn = [second.orchestrator.next_trial().params for _ in range(2)]
    assert drawn == list(SPACE.points_to_evaluate)


def test_restarted_sampler_draws_no_duplicates(tmp_path):
    first = Stage(tmp_path)
    params = [first.orchestrator.next_trial().params for _ in range(4)]
    first.ledger.close()
    second = Stage(tmp_path, num_candidates=20)
    new = [second.orchestrator.next_trial() for _ in range(20)][4:]
    assert all(trial.params not in params for trial in new)


def test_grid_draws_every_combination_once(tmp_path):
    space = parse_space({"params": {"method": {"choice": ["FLT", "HS"]}, "seed": {"choice": [0, 1, 2]}}, "grid": True})
    stage = Stage(tmp_path, space=space, sweep=sweep_config(search={"sampler": "grid"}))
    drawn = [stage.orchestrator.next_trial() for _ in range(6)]
    assert [trial.params for trial in drawn] == space.combinations()
    assert {trial.method for trial in drawn} == {"FLT", "HS"}
    assert [trial.config["seed"] for trial in drawn] == [0, 1, 2, 0, 1, 2]


def test_study_on_disk_can_be_loaded_by_optuna(tmp_path):
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    stage = Stage(tmp_path)
    stage.orchestrator.next_trial()
    stage.finish(0)
    storage = JournalStorage(JournalFileBackend(str(tmp_path / "study.journal")))
    (trial,) = optuna.load_study(study_name="s", storage=storage).trials
    assert trial.values == [0.5, 1.0]


def report(stage, number, epoch, recall, gap=1.0):
    scores = {"retrieval/mean_r1": recall, "geometry/gap": gap}
    return stage.orchestrator.reported(number, epoch, epoch, scores)


def halving(**changes):
    return sweep_config(training={"epochs": 3}, early_stopping={"method": "asha", "min_fraction": 0.3, **changes})


def test_stopped_trial_is_pruned_with_a_reason_and_is_not_on_the_front(tmp_path):
    stage = Stage(tmp_path, sweep=halving(schedule_aware=False))
    for _ in range(2):
        stage.orchestrator.next_trial()
    assert report(stage, 0, 1, 0.5)
    assert not report(stage, 1, 1, 0.9, gap=1.5)  # not dominated, but second in its layer
    pruned = stage.record.trials[1]
    assert (pruned.state, pruned.reason) == (State.PRUNED, "rung 30%: rank 2 of 2, only the best 1 may continue")
    assert stage.states()[1] is TrialState.PRUNED
    assert summarize(stage.record).front == []


def test_next_driver_makes_the_same_decisions(tmp_path):
    """A restarted sweep has the same rungs as an uninterrupted sweep."""
    values = [0.5, 0.4, 0.6, 0.3, 0.55, 0.7, 0.2, 0.65]
    whole = Stage(tmp_path / "whole", sweep=halving(schedule_aware=False), num_candidates=8)
    for number, value in enumerate(values):
        whole.orchestrator.next_trial()
        report(whole, number, 1, value)
    for number, value in enumerate(values):
        stage = Stage(tmp_path / "cut", sweep=halving(schedule_aware=False), num_candidates=8)
        if number not in stage.record.trials:
            while stage.orchestrator.next_trial().number != number:
                pass
        report(stage, number, 1, value)
        stage.ledger.close()
    cut = {n: (trial.state.ended, trial.reason) for n, trial in stage.record.trials.items()}
    assert cut == {n: (trial.state.ended, trial.reason) for n, trial in whole.record.trials.items()}
    assert sum(ended for ended, _ in cut.values()) >= 2


@pytest.mark.parametrize("last", ["report", "end"])
def test_driver_killed_after_a_report_ends_the_trial_when_restarted(tmp_path, last):
    first = Stage(tmp_path)
    first.orchestrator.next_trial()
    first.finish(0)
    first.ledger.close()
    path = tmp_path / "ledger.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    assert b'"event":"end"' in lines[-1]
    if last == "report":
        path.write_bytes(b"".join(lines[:-1]))
    second = Stage(tmp_path)
    assert second.record.trials[0].state is State.COMPLETE
    assert second.states() == [TrialState.COMPLETE]
    assert second.study.study.trials[0].values == [0.5, 1.0]


def test_candidate_with_seeds_enters_the_study_once_with_mean_and_stds(tmp_path):
    stage = Stage(tmp_path, sweep=sweep_config(search={"seeds": 2}), num_candidates=2)
    drawn = [stage.orchestrator.next_trial() for _ in range(4)]
    assert [(trial.number, trial.candidate, trial.config["seed"]) for trial in drawn] == [
        (0, 0, 0),
        (1, 0, 1),
        (2, 1, 0),
        (3, 1, 1),
    ]
    assert drawn[0].params == drawn[1].params
    assert stage.orchestrator.next_trial() is None
    stage.finish(0, recall=0.4)
    assert stage.states()[0] is TrialState.RUNNING
    stage.finish(1, recall=0.6)
    added = stage.study.study.trials[0]
    assert added.values == pytest.approx([0.5, 1.0])
    assert added.user_attrs["stds"] == pytest.approx([0.02**0.5, 0.0])
    (member,) = summarize(stage.record).front
    assert member.values == pytest.approx([0.5, 1.0])
    assert member.errors == pytest.approx([0.1, 0.0])


def test_one_failed_seed_fails_the_candidate_and_stops_the_others(tmp_path):
    stage = Stage(tmp_path, sweep=sweep_config(search={"seeds": 3}), num_candidates=1)
    for _ in range(3):
        stage.orchestrator.next_trial()
    stage.finish(1)
    stage.orchestrator.failed(0, "out of memory: x")
    states = [trial.state for trial in stage.record.trials.values()]
    assert states == [State.FAIL, State.COMPLETE, State.FAIL]
    assert stage.record.trials[2].reason == "seed 0 failed"
    assert stage.states() == [TrialState.FAIL]
    assert not report(stage, 2, 1, 0.5)


def test_constraints_reach_the_sampler_and_the_front(tmp_path):
    sweep = sweep_config(constraints=[{"metric": "geometry/gap", "max": 0.8}])
    stage = Stage(tmp_path, sweep=sweep)
    for number, (recall, gap) in enumerate([(0.9, 1.0), (0.5, 0.7), (0.4, 0.9)]):
        stage.orchestrator.next_trial()
        stage.finish(number, recall=recall, gap=gap)
    summary = summarize(stage.record)
    assert [one.trial.number for one in summary.front] == [1]
    assert summary.infeasible == 2
    added = [trial.constraints["geometry/gap"] for trial in stage.study.study.trials]
    assert added == pytest.approx([0.2, -0.1, 0.1])
    again = Stage.__new__(Stage)
    stage.ledger.close()
    again.__init__(tmp_path, sweep=sweep)
    assert [t.constraints["geometry/gap"] for t in again.study.study.trials] == pytest.approx(added)


def test_interrupted_sweep_has_no_running_trial_in_the_study(tmp_path):
    stage = Stage(tmp_path)
    for _ in range(3):
        stage.orchestrator.next_trial()
    stage.finish(0)
    stage.orchestrator.close("interrupted")
    assert stage.states() == [TrialState.COMPLETE, TrialState.FAIL, TrialState.FAIL]


def test_study_learns_only_from_known_trials_in_its_space():
    from gaptune.config import TrialConfig, flatten
    from gaptune.search.study import Study

    found = [
        ({"temperature.schedule": "constant", "temperature.tau_start": 0.05}, [0.5, 1.0]),
        ({"temperature.schedule": "constant", "temperature.tau_start": 0.9}, [0.5, 1.0]),  # outside
        ({"temperature.schedule": "learned"}, [0.5, 1.0]),  # not in this space
        ({"temperature.schedule": "constant", "swap.kind": "hard"}, [0.5, 1.0]),  # fixed to none here
    ]
    known = [(flatten(TrialConfig()) | params, values, {}) for params, values in found]
    study = Study(SPACE, sweep_config(), "s", known=known)
    assert study.learned_from == 1
    assert [trial.params["temperature.tau_start"] for trial in study.study.trials] == [0.05]
    assert study.ask() == (0, SPACE.points_to_evaluate[0])


def test_reason_that_is_not_valid_utf8_is_recorded(tmp_path):
    stage = Stage(tmp_path / "s")
    trial = stage.orchestrator.next_trial()
    stage.orchestrator.failed(trial.number, "no such file: caf\udce9.jpg")
    stage.ledger.close()
    assert load(tmp_path / "s").trials[0].reason == stage.record.trials[0].reason == "no such file: caf\\udce9.jpg"
