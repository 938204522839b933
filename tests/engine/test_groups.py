"""Which trials a worker trains together; no Ray."""

import pytest
from support import Stage, sweep_config

from gaptune.engine.groups import Groups
from gaptune.ledger import State
from gaptune.space.parse import parse_space

FREE = {"temperature.tau_start": {"log_uniform": [0.01, 0.2]}}
POINTS = [
    {"temperature.tau_start": 0.02 + index / 100, "training.batch_size": size}
    for index, size in enumerate((64, 64, 128, 64))
]
MIXED = {"params": {**FREE, "training.batch_size": {"choice": [64, 128]}}, "points_to_evaluate": POINTS}


def stage(folder, *, space=None, seeds=1, candidates=6):
    sweep = sweep_config(search={"seeds": seeds})
    return Stage(folder, sweep=sweep, space=parse_space({"params": FREE, **(space or {})}), num_candidates=candidates)


def numbers(groups, name):
    return [trial.number for trial in groups.next(name)]


def test_a_group_has_as_many_trials_as_there_are_lanes_and_the_last_what_is_left(tmp_path):
    groups = Groups(stage(tmp_path, candidates=5).orchestrator, 2)
    assert [numbers(groups, name) for name in "abcd"] == [[0, 1], [2, 3], [4], []]
    assert groups.running == 3
    assert groups.pending


def test_trials_that_cannot_be_lanes_of_one_training_are_not_mixed_and_none_is_lost(tmp_path):
    groups = Groups(stage(tmp_path, space=MIXED, candidates=4).orchestrator, 3)
    assert [numbers(groups, name) for name in "abcd"] == [[0, 1], [2], [3], []]


def test_seeds_of_a_candidate_are_lanes(tmp_path):
    on = stage(tmp_path, seeds=2, candidates=3)
    groups = Groups(on.orchestrator, 4)
    assert [numbers(groups, name) for name in "abc"] == [[0, 1, 2, 3], [4, 5], []]
    assert [on.record.trials[number].config["seed"] for number in range(4)] == [0, 1, 0, 1]


def test_a_waiting_trial_that_ends_with_its_candidate_does_not_run(tmp_path):
    """Two seeds, of which the second does not fit into the group: it waits for the next one."""
    on = stage(tmp_path, seeds=2, candidates=2)
    groups = Groups(on.orchestrator, 3)
    assert numbers(groups, "a") == [0, 1, 2]
    on.orchestrator.failed(2, "non-finite: loss")
    assert numbers(groups, "b") == []
    assert on.record.trials[3].state is State.FAIL


def test_unfinished_trials_of_an_earlier_driver_are_grouped_the_same_way(tmp_path):
    on = stage(tmp_path, candidates=4)
    groups = Groups(on.orchestrator, 3)
    groups.next("a")
    on.finish(1)
    on.ledger.close()
    again = Groups(stage(tmp_path, candidates=4).orchestrator, 3)
    assert numbers(again, "b") == [0, 2, 3]


@pytest.mark.parametrize(("too_large", "then"), [(False, [3, 4, 5]), (True, [3, 4])])
def test_a_group_that_cannot_continue_is_halved_and_a_trial_alone_fails(tmp_path, too_large, then):
    on = stage(tmp_path)
    groups = Groups(on.orchestrator, 3)
    assert numbers(groups, "a") == [0, 1, 2]
    groups.failed("a", "trial {}: out of memory".format, too_large=too_large)
    assert groups.left("a") == []
    assert numbers(groups, "b") == [0, 1]
    assert numbers(groups, "c") == [2]
    groups.failed("c", "trial {}: out of memory".format)
    assert on.record.trials[2].state is State.FAIL
    assert on.record.trials[2].reason == "trial 2: out of memory"
    assert on.record.trials[0].retries == ["trial 0: out of memory (with 3 lanes)"]
    assert numbers(groups, "d") == then


def test_what_has_ended_is_not_retried_with_its_group(tmp_path):
    on = stage(tmp_path)
    groups = Groups(on.orchestrator, 3)
    groups.next("a")
    on.finish(0)
    assert groups.left("a") == [1, 2]
    groups.failed("a", lambda number: "gone")
    assert numbers(groups, "b") == [1]
    on.finish(2)
    assert numbers(groups, "c") == [3, 4, 5]  # the other half has ended
    assert on.record.trials[0].retries == []


def test_nothing_is_pending_once_no_group_can_be_halved(tmp_path):
    on = stage(tmp_path, candidates=2)
    groups = Groups(on.orchestrator, 2)
    groups.next("a")
    assert groups.pending
    on.finish(0)
    assert not groups.pending
    assert groups.running == 1
    on.finish(1)
    assert groups.running == 0
