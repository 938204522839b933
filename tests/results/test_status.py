"""Where a sweep stands."""

from support import Stage

from gaptune.results.status import progress, running_on


def test_only_running_trials_are_on_a_node(tmp_path):
    stage = Stage(tmp_path)
    for number, node in enumerate("abab"):
        stage.orchestrator.next_trial()
        stage.orchestrator.started(number, node)
    stage.orchestrator.failed(0, "exception: x")
    waiting = stage.orchestrator.next_trial().number
    assert running_on(stage.record) == {"a": [2], "b": [1, 3]}
    found = progress(stage.record)
    assert found["nodes"] == {"a": [2], "b": [1, 3]}
    assert [(one["trial"], one["state"], one["node"]) for one in found["under_way"]] == [
        (1, "RUNNING", "b"),
        (2, "RUNNING", "a"),
        (3, "RUNNING", "b"),
        (waiting, "WAITING", None),
    ]
