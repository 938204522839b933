"""A sweep of which nothing is complete: why, and the exit code."""

import pytest
from support import Stage

from gaptune.results.failures import nothing_complete


def failed(folder, *reasons):
    """The record of a sweep whose trials failed for some reasons; None for a trial that is complete."""
    stage = Stage(folder, num_candidates=len(reasons))
    for reason in reasons:
        trial = stage.orchestrator.next_trial()
        if reason is None:
            stage.finish(trial.number)
        else:
            stage.orchestrator.started(trial.number, "here")
            stage.orchestrator.failed(trial.number, reason)
    stage.ledger.close()
    return stage.record


def test_the_most_frequent_reason_is_named_whatever_its_numbers(tmp_path):
    record = failed(
        tmp_path, "out of memory: 3 GB", "non-finite: loss nan at step 3", "non-finite: loss nan at step 71"
    )
    assert nothing_complete(record) == "no trial is complete: 2 of 3 failed with: non-finite: loss nan at step 3"


def test_one_complete_trial_is_enough(tmp_path):
    assert nothing_complete(failed(tmp_path, "out of memory", None)) is None


@pytest.mark.parametrize(("reasons", "code"), [(("broken [/a]\nTraceback", "broken [/a]"), 1), (("broken", None), 0)])
def test_the_exit_code_says_whether_anything_is_complete(tmp_path, capsys, reasons, code):
    from types import SimpleNamespace

    from gaptune.cli.session import print_next_steps
    from gaptune.console import make_console

    record = failed(tmp_path / "s", *reasons)
    plan = SimpleNamespace(name="s", folder=tmp_path / "s")
    try:
        print_next_steps(record, plan, make_console(), tmp_path)
        left = 0
    except SystemExit as stop:
        left = stop.code
    assert left == code
    said = capsys.readouterr().out.splitlines()[-1]
    assert (said == "no trial is complete: 1 of 2 failed with: broken [/a] Traceback") == bool(code)
