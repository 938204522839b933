"""`ray up` on three machines, each with its own network, processes and home; one of them is killed in the middle."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from programs import why_not
from support import write_yaml
from warm import run

from gaptune.ledger import State, load, read_events
from gaptune.trial.checkpoint import Checkpoints

ROOT = Path(__file__).resolve().parents[2]
MACHINES = ROOT / "tests/helpers/machines.sh"
PROGRAMS = ["sshd", "ssh", "rsync", "ip", "unshare"]
EPOCHS = 400
VALUES = {"head": "10.77.0.2", "user": "root"}

MISSING = why_not(*PROGRAMS, packages="openssh-server, openssh-client, rsync, iproute2")
pytestmark = [
    pytest.mark.soak,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(MISSING is not None, reason=str(MISSING)),
]


@pytest.fixture
def machines(tmp_path):
    """The cluster file of three machines that are up, without its commands that install: there is no network."""
    folder = tmp_path / "machines"
    folder.mkdir()
    subprocess.run(["bash", MACHINES, "down"], check=True)
    try:
        subprocess.run(["bash", MACHINES, "up", folder, Path(sys.executable).parents[1], ROOT], check=True)
        text = (ROOT / "deploy/own_machines.yaml").read_text()
        for name, value in (VALUES | {"key": str(folder / "key")}).items():
            text = text.replace(f"&{name} FILL_IN", f"&{name} {value}")
        content = yaml.safe_load(text.replace("- FILL_IN", "- 10.77.0.3\n    - 10.77.0.4"))
        content["setup_commands"], content["cluster_name"] = [], f"own-{os.getpid()}"
        (tmp_path / "dist").mkdir()
        (tmp_path / "cluster.yaml").write_text(yaml.safe_dump(content))
        yield tmp_path / "cluster.yaml"
    finally:
        subprocess.run(["bash", MACHINES, "down"], check=True)


def ray(*words, cwd):
    command = [sys.executable, "-m", "ray.scripts.scripts", *map(str, words)]
    env = os.environ | {"RAY_UP_enable_autoscaler_v2": "0", "RAY_AUTH_MODE": "token"}
    return subprocess.Popen(command, cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def ended(process, timeout):
    out, _ = process.communicate(timeout=timeout)
    assert process.returncode == 0, out
    return out


def reports(folder):
    """The machine of each trial that has reported, by its number."""
    if not (folder / "ledger.jsonl").exists():
        return {}
    found, _ = read_events(folder)
    begun = {event["trial"] for event in found if event["event"] == "report"}
    return {
        event["trial"]: event.get("node") for event in found if event["event"] == "start" and event["trial"] in begun
    }


def weights(folder):
    return {number: Checkpoints(folder / f"{number:04d}").load()["model"] for number in range(4)}


def test_a_machine_is_killed_and_the_sweep_ends_with_the_same_weights(machines, tmp_path, small_features):
    began = time.monotonic()
    subprocess.run(
        [sys.executable, "-m", "ray.scripts.scripts", "get-auth-token", "--generate"],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    space, config = write_yaml(tmp_path, small_features, epochs=EPOCHS, trials=4)
    sweep = ["sweep", space, "--config", config, "--name", "s"]
    run(*sweep, "--results", tmp_path / "calm")
    calm = time.monotonic()
    ended(ray("up", "--yes", "--no-config-cache", machines, cwd=tmp_path), 400)
    up = time.monotonic()
    job = ["~/gaptune-env/bin/gaptune", *sweep, "--results", tmp_path / "struck", "--storage", f"file://{tmp_path}/far"]
    line = " ".join(map(str, [*job, "--address", "auto", "--concurrency", "4"]))
    driver = ray("exec", machines, line, cwd=tmp_path)
    folder = tmp_path / "struck/s"
    while driver.poll() is None and len(reports(folder)) < 2:
        time.sleep(0.1)
    struck = time.monotonic()
    subprocess.run(["bash", MACHINES, "kill", "4"], check=True)
    out = ended(driver, 600)
    done = time.monotonic()
    ended(ray("down", "--yes", machines, cwd=tmp_path), 200)
    steps = {"calm": calm - began, "up": up - calm, "until killed": struck - up, "until done": done - struck}
    print({name: round(seconds) for name, seconds in steps.items()}, round(time.monotonic() - done), out[-2000:])
    record = load(folder)
    assert [trial.state for trial in record.trials.values()] == [State.COMPLETE] * 4
    expected, got = weights(tmp_path / "calm/s/trials"), weights(tmp_path / "far/s/trials")
    for number in range(4):
        assert all(torch.equal(expected[number][name], got[number][name]) for name in expected[number]), number
