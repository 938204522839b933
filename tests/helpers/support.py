"""What tests share: a sweep without Ray (orchestrator, ledger and study are real), a small real store, pages."""

import importlib.util
import itertools
import os
import resource
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager, suppress

import numpy as np
import psutil
import pytest
from warm import Gaptune

from gaptune.config import SweepConfig, flatten
from gaptune.data import FeatureMeta, StoreWriter
from gaptune.data.store.reader import read_store
from gaptune.ledger import Ledger, load
from gaptune.ledger.opening import open_ledger
from gaptune.search.orchestrator import Orchestrator
from gaptune.search.study import Study
from gaptune.space.model import Space
from gaptune.space.parse import parse_space

OBJECTIVES = [
    {"metric": "retrieval/mean_r1", "reference": 0.0, "ideal": 1.0},
    {"metric": "geometry/gap", "reference": 2.0, "ideal": 0.0},
]
SPACE = parse_space(
    {
        "name": "small",
        "params": {
            "temperature.schedule": {"choice": ["constant", "linear"]},
            "temperature.tau_start": {"log_uniform": [0.01, 0.2]},
            "temperature.tau_end": {"log_uniform": [0.01, 0.2], "when": {"temperature.schedule": ["linear"]}},
            "swap.kind": "none",
        },
        "points_to_evaluate": [{"method": "FLT"}, {"temperature.schedule": "linear"}],
    }
)


def needs(module):
    """Skips a test whose package is not installed. If its import fails, the test fails."""
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed")


def sweep_config(**changes) -> SweepConfig:
    search = {"sampler": "random", "candidates": 6} | changes.pop("search", {})
    return SweepConfig.model_validate({"objectives": OBJECTIVES, "training": {"epochs": 2}, "search": search} | changes)


def header(sweep: SweepConfig, space: Space = SPACE) -> dict:
    objectives = [
        {"metric": o.metric, "maximize": o.maximize, "reference": o.reference, "ideal": o.ideal}
        for o in sweep.objectives
    ]
    return {
        "event": "sweep",
        "at": 0.0,
        "schema": 2,
        "id": "0123456789abcdef",
        "name": "s",
        "space": space.to_dict(),
        "varied": list(space.varied()),
        "config": sweep.model_dump(mode="json"),
        "base": flatten(sweep.trial({})),
        "objectives": objectives,
        "data": {"store": "scenes", "name": "scenes", "hash": "f" * 64, "splits": {"train": 100, "val": 10}},
        "command": "gaptune sweep small.yaml",
        "versions": {"gaptune": "0"},
    }


class Stage:
    """An orchestrator over a real ledger and a real study in a folder."""

    def __init__(self, folder, *, sweep=None, space=SPACE, num_candidates=6, listeners=()):
        self.sweep = sweep or sweep_config()
        self.ledger = Ledger(folder)
        opened = open_ledger(self.ledger, None, print)
        self.record = opened.record
        self.heard = []
        if not opened.events:
            self.ledger.append(header(self.sweep, space))
            self.record.apply(header(self.sweep, space))
        self.study = Study(space, self.sweep, "s", folder=folder)
        self.orchestrator = Orchestrator.resume(
            opened,
            self.ledger,
            self.study,
            self.sweep,
            num_candidates=num_candidates,
            listeners=(self.heard.append, *listeners),
            clock=itertools.count(1.0).__next__,
        )

    def states(self):
        return [trial.state for trial in self.study.study.get_trials(deepcopy=False)]

    def finish(self, number, recall=0.5, gap=1.0, more=None):
        self.orchestrator.started(number, "here")
        for epoch in (1, 2):
            scores = {"retrieval/mean_r1": recall, "geometry/gap": gap} | (more or {})
            goes_on = self.orchestrator.reported(number, epoch, epoch * 10, scores)
        assert not goes_on


MADE_SPACE = parse_space(
    {
        "name": "made",
        "params": {
            "temperature.tau_start": {"log_uniform": [0.01, 0.3]},
            "temperature.schedule_fraction": {"uniform": [0.3, 1.0]},
        },
    }
)


def made_sweep(folder, trials, **changes):
    """A ledger written by hand, of sweeps that no training would give.

    Args:
        folder: Of the sweep, which is called like it.
        trials: A mapping each: ``scores``, and what else is not usual of ``tau``, ``share``, ``state``, ``reason``,
            ``method`` and ``candidate``.
        changes: Of the sweep's YAML.
    """
    head = header(sweep_config(**changes), MADE_SPACE) | {"name": folder.name}
    lines = [head]
    for number, one in enumerate(trials):
        at, state = 10.0 * (number + 1), one.get("state", "COMPLETE")
        params = {
            "temperature.tau_start": one.get("tau", 0.05),
            "temperature.schedule_fraction": one.get("fraction", 0.5),
        }
        about = {"candidate": one.get("candidate", number), "params": params, "config": {**head["base"], **params}}
        lines.append({"event": "trial", "at": at, "trial": number, "method": one.get("method", "FLT"), **about})
        lines.append({"event": "start", "at": at + 1, "trial": number, "node": "here"})
        if one.get("scores"):
            report = {"epoch": 2, "step": 20, "metrics": {"temperature/tau": 0.05, **one["scores"]}}
            lines.append({"event": "report", "at": at + 2, "trial": number, **report})
        if state not in ("RUNNING", "WAITING"):
            lines.append({"event": "end", "at": at + 3, "trial": number, "state": state, "reason": one.get("reason")})
    ledger = Ledger(folder)
    for line in lines:
        ledger.append(line)
    ledger.close()
    return load(folder)


SMALL = {"train": 192, "val": 64, "probe_train": 60, "probe_test": 40}


def make_features(path):
    """A store of features: what an image and its text share is a point of 8 numbers."""
    draw = np.random.default_rng(0)
    mixing = draw.standard_normal((2, 8, 24))
    with StoreWriter(path, features=FeatureMeta(image=24, text=24, dtype="float32")) as writer:
        for split in ("train", "val"):
            points = draw.standard_normal((SMALL[split], 8))
            images, texts = (points @ each + draw.standard_normal((len(points), 24)) for each in mixing)
            for row, image in enumerate(images):
                writer.add(split, image, [f"text {row}"], texts[row : row + 1], id=f"{split}-{row}")
        return writer.finish(name="features", source={})


SPACE_YAML = """
params:
  temperature.schedule: constant
  temperature.tau_start: {log_uniform: [0.02, 0.3]}
points_to_evaluate:
  - {temperature.tau_start: 0.05}
"""

SWEEP_YAML = """
model: {name: MODEL}
data: {store: STORE}
training: {epochs: EPOCHS, batch_size: 64}
objectives:
  - {metric: retrieval/mean_r10, reference: 0.0, ideal: 1.0}
  - {metric: uniformity/wang_isola, reference: 0.0, ideal: -4.0}
search: {sampler: random, candidates: TRIALS}
"""


def write_yaml(folder, store, *, epochs=2, trials=4, more=""):
    """A small search space and sweep as files; returns their paths.

    On a store of features the model is two heads: their workers need no open_clip, whose import takes seconds.
    """
    space, sweep = folder / "small.yaml", folder / "sweep.yaml"
    space.write_text(SPACE_YAML)
    model = "heads, width: 16" if read_store(folder / store).meta.features else "scenes-tiny"
    values = {"MODEL": model, "STORE": store, "EPOCHS": epochs, "TRIALS": trials}
    text = SWEEP_YAML
    for name, value in values.items():
        text = text.replace(name, str(value))
    sweep.write_text(text + more)
    return space, sweep


def cpu_seconds(run):
    """What the processes that ``run`` starts and waits for cost: what a clock shows hangs on what else is running."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    run()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def is_alive(process):
    """Whether a process, of psutil, has not ended; one that nobody has reaped has."""
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def trial_workers(above=None):
    """The processes below one, by default this one, that run trials: never those of another Ray on this machine."""
    for child in (above or psutil.Process()).children(recursive=True):
        with suppress(psutil.Error, IndexError):  # it has just ended
            if child.cmdline()[0].startswith(("ray::ResourceTrainable", "ray::Worker")):  # in a step, between two
                yield child


def free_port():
    """A port of loopback on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until_up(address, process):
    """Until an MLflow server answers; a busy machine gets the time that it takes."""
    deadline = time.monotonic() + 300
    while True:
        with suppress(OSError):
            urllib.request.urlopen(f"{address}/health", timeout=2).read()
            return
        assert process.poll() is None, "the server has ended"
        assert time.monotonic() < deadline, "the server did not come up"
        time.sleep(0.2)


@contextmanager
def pages_of(results, env, *, anew=True):
    """``gaptune ui`` on a results folder, up, as Python started anew or forked; gives its address."""
    port = free_port()
    words = ["ui", "--results", str(results), "--port", str(port)]
    if anew:
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        command = [sys.executable, "-m", "gaptune.cli", *words]
        process = subprocess.Popen(command, env=env, start_new_session=True, **quiet)
    else:
        process = Gaptune(*words, env=env, new_session=True)
    try:
        wait_until_up(f"http://127.0.0.1:{port}", process)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
