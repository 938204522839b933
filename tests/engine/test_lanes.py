"""Sweeps whose workers train several trials as lanes: nobody can tell from ledger and MLflow."""

import io
import os
import signal
import threading
import time
from contextlib import suppress

import psutil
import pytest
import torch
from mlflow import MlflowClient
from rich.console import Console
from support import trial_workers, write_yaml
from warm import Gaptune, run

from gaptune.config import load_sweep_config
from gaptune.console.live import Display
from gaptune.engine import session
from gaptune.engine.plan import prepare
from gaptune.ledger import State, load, read_events
from gaptune.space.parse import load_space
from gaptune.tracking import default_uri
from gaptune.trial.checkpoint import Checkpoints

pytestmark = pytest.mark.whole

LANES = "resources: {lanes: 3, cpu: 2}\n"  # one worker at a time
ALONE = "resources: {lanes: 1, cpu: 2}\n"


def sweep(folder, store, more=LANES, *, seeds=1, space=None, **yaml):
    """Runs a sweep in a folder of its own; returns its final state."""
    folder.mkdir(exist_ok=True)
    space_file, config = write_yaml(folder, store, more=more, **yaml)
    config.write_text(config.read_text().replace("search: {", f"search: {{seeds: {seeds}, "))
    if space:
        space_file.write_text(space)
    told = {"name": "s", "results": folder / "results", "now": time.time(), "command": ""}
    plan = prepare(load_space(space_file), load_sweep_config(config), **told)
    with Display(Console(file=io.StringIO())) as display:
        return session.run(
            plan, display=display, results=told["results"], tracking_uri=None, address=None, clock=time.time
        )


def weights(folder, number):
    return Checkpoints(folder / "results" / "s" / "trials" / f"{number:04d}").load()["model"]


def contents(record):
    """What a ledger says of each trial but for times, machines, and what an epoch took."""
    return {
        number: (
            trial.candidate,
            trial.params,
            trial.config,
            trial.state,
            trial.reason,
            [
                (one.epoch, one.step, {name: pytest.approx(v, abs=1e-4) for name, v in one.metrics.items() if "time/" not in name})
                for one in trial.reports
            ],
        )
        for number, trial in record.trials.items()
    }


def workers_of(record, folder):
    """The trials that were started in a row, without a report between them."""
    groups, open_group = [], False
    for event in read_events(folder / "results" / "s")[0]:
        if event["event"] == "start":
            groups = [*groups[:-1], [*groups[-1], event["trial"]]] if open_group else [*groups, [event["trial"]]]
        if event["event"] in ("start", "report"):
            open_group = event["event"] == "start"
    return groups


@pytest.fixture(scope="module")
def both(tmp_path_factory, small_features, local_ray):
    """The same sweep in lanes and alone."""
    folder = tmp_path_factory.mktemp("lanes")
    return {kind: (folder / kind, sweep(folder / kind, small_features, more)) for kind, more in (("lanes", LANES), ("alone", ALONE))}


def test_a_sweep_in_lanes_has_the_ledger_and_the_weights_of_one_without(both):
    (folder, record), (other, expected) = both["lanes"], both["alone"]
    assert workers_of(record, folder) == [[0, 1, 2], [3]]
    assert contents(record) == contents(expected)
    for number in record.trials:
        for name, one in weights(folder, number).items():
            torch.testing.assert_close(one, weights(other, number)[name])
