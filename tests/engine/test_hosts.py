"""Sweeps inside other programs, in folders and environments that are not made for them."""

import os
import subprocess
import sys

import pytest
from support import write_yaml

from gaptune.engine.machine import available_cores
from gaptune.ledger import State, load

pytestmark = pytest.mark.whole

HOST = """
import asyncio, os, signal, sys, threading

import matplotlib
import psutil

import gaptune
from gaptune.engine import cluster

os.environ["MPLBACKEND"] = "module://of_the_notebook"  # as its kernel does

signal.signal(signal.SIGTERM, handler := lambda signum, frame: None)

had_left = []
kill = cluster._kill


def killing(processes):
    from ray._private.worker import global_worker

    had_left.append(not hasattr(global_worker, "core_worker"))
    kill(processes)


cluster._kill = killing
cluster._GRACE_S = 60.0


def check():
    import ray

    assert not ray.is_initialized()
    assert had_left == [True], "Ray's processes are killed before this one has left them, or not at all"
    had_left.clear()
    assert signal.getsignal(signal.SIGTERM) is handler
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL
    left = [child.name() for child in psutil.Process().children(recursive=True) if child.status() != "zombie"]
    assert not left, left


async def notebook():
    gaptune.run_sweep("small.yaml", "one.yaml", name="in-a-loop")


asyncio.run(notebook())
check()
if sys.argv[1] == "two":
    found = []
    thread = threading.Thread(
        target=lambda: found.append(gaptune.run_sweep("small.yaml", "two.yaml", name="in-a-thread"))
    )
    thread.start()
    thread.join()
    assert found
    check()
"""


def test_plot_is_drawn_with_a_notebooks_backend_in_the_environment(tmp_path):
    picture = tmp_path / "front.png"
    command = [sys.executable, "-m", "gaptune.cli", "front", "example", "--plot", str(picture)]
    done = subprocess.run(
        command, env=os.environ | {"MPLBACKEND": "module://of_the_notebook"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert picture.stat().st_size > 0


@pytest.mark.slow
def test_a_program_runs_one_sweep_after_another_wherever_it_is(tmp_path, small_features):
    """In a loop, then in a thread with more for each trial; everything around is as hostile as it has been seen."""
    store = tmp_path / "store"
    store.symlink_to(small_features)
    for name, cpu in (("one", 1), ("two", 2)):
        more = f"resources: {{cpu: {cpu}, concurrency: 1}}\n"
        _, config = write_yaml(tmp_path, "store", epochs=1, trials=1, more=more)  # relative to the working folder
        config.rename(tmp_path / f"{name}.yaml")
    for library in ("regex", "requests", "attr", "yaml", "jinja2"):  # each is imported late somewhere
        (tmp_path / f"{library}.py").write_text("raise SystemExit('the wrong module')")
    away = tmp_path / "program"
    away.mkdir()
    (away / "host.py").write_text(HOST)
    long = tmp_path / ("slurm_jobdir_12345" * 5)
    long.mkdir()
    hostile = {
        "TMPDIR": str(long),
        "RAY_ADDRESS": "local",
        "RAY_RUNTIME_ENV_HOOK": "nowhere.hook",
        "RAY_OVERRIDE_RESOURCES": '{"CPU": 0}',
        "MLFLOW_TRACKING_URI": "",
    }
    enough = "two" if available_cores() > 1 else "one"
    done = subprocess.run(
        [sys.executable, str(away / "host.py"), enough],
        cwd=tmp_path,
        env=os.environ | hostile,
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for name in ("in-a-loop", "in-a-thread")[: 2 if enough == "two" else 1]:
        assert load(tmp_path / "results" / name).count(State.COMPLETE) == 1
