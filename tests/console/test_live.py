"""The display of a running sweep."""

import io

import pytest
from rich.console import Console
from support import Stage

from gaptune.console.live import Display

METRICS = {"retrieval/mean_r1": 0.5, "geometry/gap": 1.0, "temperature/tau": 0.07}


def play(folder, *, terminal, nodes=("here",)):
    out = io.StringIO()
    display = Display(Console(file=out, force_terminal=terminal, width=120, force_interactive=terminal))
    stage = Stage(folder, listeners=(display,))
    with display:
        display.start(stage.record, 6)
        for number in range(3):
            stage.orchestrator.next_trial()
            stage.orchestrator.started(number, nodes[number % len(nodes)])
            stage.orchestrator.reported(number, 1, 1, METRICS)
        stage.orchestrator.reported(0, 2, 2, METRICS)
        stage.orchestrator.retried(1, "worker lost")
        stage.orchestrator.failed(1, "exception: x")
        if terminal:
            display._live.refresh()
    return out.getvalue()


def test_without_a_terminal_each_ended_trial_is_a_plain_line(tmp_path):
    lines = play(tmp_path, terminal=False).splitlines()
    assert lines[0].startswith("[1/6] trial 0 COMPLETE FLT  retrieval/mean_r1 0.500  geometry/gap 1.000")
    assert lines[1] == "trial 1: retrying after: worker lost"
    assert lines[2].startswith("[2/6] trial 1 FAIL TS")
    assert "(exception: x)" in lines[2]
    assert "\x1b" not in "".join(lines)


@pytest.mark.parametrize("nodes", [("here",), ("spot-0", "spot-1")])
def test_a_panel_shows_nodes_if_there_are_several(tmp_path, nodes):
    shown = play(tmp_path, terminal=True, nodes=nodes)
    assert ("trials on 1 node: spot-0 1" in shown) is (len(nodes) > 1)
    assert ("node " in shown) is (len(nodes) > 1)


@pytest.mark.parametrize("part", ["2/6 done, 1 running, 1 failed", "front: 0 (FLT); hypervolume 0.2500", "1/2", "left"])
def test_on_a_terminal_a_panel_shows_the_progress(tmp_path, part):
    assert part in play(tmp_path, terminal=True)
