"""A cluster that scales from zero nodes, by Ray's own autoscaler with nodes on this machine."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest
import warm
from ray._raylet import GcsClient
from support import free_port, write_yaml

from gaptune.ledger import load, read_events

pytestmark = [pytest.mark.whole, pytest.mark.timeout(600)]

TRIALS = 4
CORES = 2
"""Of a node, each of which costs seconds."""
EPOCHS = 100_000
"""So that all trials train until they are stopped."""


def config(port, nodes):
    """Of ``ray.cluster_utils.AutoscalingCluster``, which would end every other Ray on this machine."""
    empty = ["initialization", "setup", "head_setup", "worker_setup", "head_start_ray", "worker_start_ray"]
    return {
        "cluster_name": "here",
        "max_workers": nodes,
        "upscaling_speed": 10,
        "idle_timeout_minutes": 0.1,
        "provider": {
            "type": "external",
            "module": "warm_nodes.WarmNodes",
            "gcs_address": f"127.0.0.1:{port}",
            "launch_multiple": True,
            "use_node_id_as_ip": True,
            "disable_node_updaters": True,
            "disable_launch_config_check": True,
        },
        "available_node_types": {
            "ray.head.default": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
            "worker": {"resources": {"CPU": CORES}, "node_config": {}, "min_workers": 0, "max_workers": nodes},
        },
        "head_node_type": "ray.head.default",
        "auth": {},
        "docker": {},
        "file_mounts": {},
        "file_mounts_sync_continuously": False,
        "cluster_synced_files": [],
        "rsync_exclude": [],
        "rsync_filter": [],
        **{f"{kind}_commands": [] for kind in empty},
    }


@contextmanager
def scaling(folder, nodes):
    """Address of a head node without cores whose autoscaler starts nodes of two; and its process."""
    warm.workers_are_warm()
    port = free_port()
    file = folder / "cluster.json"
    file.write_text(json.dumps(config(port, nodes)))
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", f"--port={port}", "--num-cpus=0"]
    command += ["--block", "--include-dashboard=false", "--disable-usage-stats", "--node-ip-address=127.0.0.1"]
    command += [f"--temp-dir=/tmp/ray-{os.getpid()}-s", f"--autoscaling-config={file}"]
    env = os.environ | {"RAY_FAKE_CLUSTER": "1", "AUTOSCALER_UPDATE_INTERVAL_S": "1", "RAY_AUTH_MODE": "disabled"}
    env["PYTHONPATH"] = os.pathsep.join([str(Path(warm.__file__).parent), env.get("PYTHONPATH", "")])
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    running = subprocess.Popen(command, env=env, start_new_session=True, **quiet)
    head = psutil.Process(running.pid)
    try:
        yield f"127.0.0.1:{port}", head
    finally:
        for process in [*head.children(recursive=True), head]:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        running.wait()


def wait_for_port(address):
    host, port = address.split(":")
    while True:
        with suppress(OSError):
            return socket.create_connection((host, int(port))).close()
        time.sleep(0.1)


def training(folder):
    """Numbers of the trials that have reported; none ends by itself."""
    found = read_events(folder)[0] if (folder / "ledger.jsonl").exists() else []
    return {event["trial"] for event in found if event["event"] == "report"}


def raylets(head):
    """How many nodes run. A raylet's child has its name, too, until it has become a worker."""
    found = 0
    for process in head.children(recursive=True):
        with suppress(psutil.Error):
            found += process.name() == "raylet" != process.parent().name()
    return found


def wait_for_nodes(head, number):
    """Ray's autoscaler may start one more for a moment, where one of several is up before the others are known."""
    deadline = time.monotonic() + 120
    while (running := raylets(head)) != number:
        assert time.monotonic() < deadline, f"{running} nodes instead of {number}"
        time.sleep(0.2)


def test_a_cluster_without_nodes_starts_those_that_the_trials_need_and_idle_ones_go(
    tmp_path, small_features, monkeypatch
):
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    space, sweep = write_yaml(tmp_path, small_features, trials=TRIALS, epochs=EPOCHS)
    command = ["sweep", space, "--config", sweep, "--name", "s", "--results", tmp_path / "results"]
    with scaling(tmp_path, nodes=TRIALS // CORES) as (address, head):
        wait_for_port(address)
        ray = GcsClient(address)
        while b"ray.head.default" not in (ray.internal_kv_get(b"__autoscaling_status", None) or b""):
            assert head.is_running()
            time.sleep(0.1)
        process = warm.Gaptune(*command, "--address", address, "--concurrency", TRIALS)
        folder = tmp_path / "results" / "s"
        while process.poll() is None and len(training(folder)) < TRIALS:
            time.sleep(0.2)
        assert process.poll() is None, process.stdout + process.stderr
        wait_for_nodes(head, 1 + TRIALS // CORES)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 128 + signal.SIGTERM, process.stdout + process.stderr
        assert len({trial.node for trial in load(folder).trials.values()}) == TRIALS // CORES
        wait_for_nodes(head, 1)
