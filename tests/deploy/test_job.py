"""A sweep as a job, as docs/guides/cluster.md describes it: submitted from outside with a token, results by storage.

The cluster is one node. With two nodes on one machine, Ray removes the working directory of a job while it runs: the
nodes share the place to which it is unpacked.
"""

import os
import subprocess
import sys
import time
from contextlib import suppress

import psutil
import pytest
from support import free_port, write_yaml
from warm import run

from gaptune.ledger import State, load
from gaptune.tracking.store import default_uri

pytestmark = [pytest.mark.whole, pytest.mark.timeout(600)]

RAY = [sys.executable, "-m", "ray.scripts.scripts"]


@pytest.fixture
def cluster(tmp_path):
    """The port of a Ray head, that of its dashboard, and the environment of who has the token."""
    port, dashboard, agent = free_port(), free_port(), free_port()
    (tmp_path / "token").write_text("a" * 64)
    env = os.environ | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(tmp_path / "token")}
    head = [*RAY, "start", "--head", f"--port={port}", "--num-cpus=1", "--disable-usage-stats", "--block"]
    head += ["--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}", "--node-ip-address=127.0.0.1"]
    head += [f"--dashboard-agent-listen-port={agent}", f"--temp-dir=/tmp/ray-{os.getpid()}"]  # short: it holds sockets
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    running = subprocess.Popen(head, start_new_session=True, env=env, **quiet)
    yield port, dashboard, env
    for process in [*psutil.Process(running.pid).children(recursive=True), running]:
        with suppress(psutil.NoSuchProcess):  # it may have ended with its parent
            process.kill()
    running.wait()


def submit(dashboard, env, folder, *command):
    address = f"--address=http://127.0.0.1:{dashboard}"
    words = [*RAY, "job", "submit", address, "--working-dir", folder, "--", *command]
    return subprocess.run([*map(str, words)], cwd="/", env=env, capture_output=True, text=True, timeout=300)


def test_a_job_from_another_folder_needs_the_token_and_its_results_come_back(cluster, tmp_path, small_features):
    port, dashboard, env = cluster
    (tmp_path / "night").mkdir()
    write_yaml(tmp_path / "night", small_features, epochs=1, trials=2)
    storage = f"file://{tmp_path}/far"
    sweep = ["gaptune", "sweep", "small.yaml", "--config", "sweep.yaml", "--name", "night", "--storage", storage]
    job = [tmp_path / "night", *sweep, "--address", f"127.0.0.1:{port}"]
    deadline = time.monotonic() + 120
    while (done := submit(dashboard, env, *job)).returncode and time.monotonic() < deadline:
        time.sleep(1)  # the dashboard answers, in several ways, before it takes jobs
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Pareto front of night" in done.stdout

    refused = submit(dashboard, env | {"RAY_AUTH_TOKEN": "b" * 64}, *job)
    assert refused.returncode
    assert "Invalid authentication token" in refused.stdout + refused.stderr

    mine = tmp_path / "mine"
    run("sync", "night", "--storage", storage, "--results", mine)
    assert [trial.state for trial in load(mine / "night").trials.values()] == [State.COMPLETE] * 2
    assert "hypervolume" in run("front", "night", "--results", mine).stdout
    assert len(runs_of_trials(mine)) == 2


def runs_of_trials(results):
    from mlflow import MlflowClient

    client = MlflowClient(default_uri(results))
    experiments = [one.experiment_id for one in client.search_experiments()]
    return [one for one in client.search_runs(experiments) if "mlflow.parentRunId" in one.data.tags]
