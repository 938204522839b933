"""Full disks and tracking servers that go away, for real."""

import os
import re
import subprocess
import time
from contextlib import suppress

import pytest
from mlflow import MlflowClient
from mlflow_server import MlflowServer
from support import write_yaml
from warm import Gaptune, run

from gaptune.ledger import State, load, read_events

FULL = os.environ.get("GAPTUNE_SOAK") == "full"
pytestmark = [pytest.mark.whole, pytest.mark.timeout(900)]


def sweep_command(folder, store, *more, results=None, **yaml):
    space, config = write_yaml(folder, store, **yaml)
    command = ["sweep", space, "--config", config, "--name", "s"]
    return [*command, "--results", results or folder / "results", "--concurrency", "2", *more]


@pytest.fixture
def small_disk(tmp_path):
    """A file system of its own; a function makes it larger."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=25m", "none", str(place)]
    made = subprocess.run(mount, capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"no small file system can be mounted here: {made.stderr.strip()}")
    yield place, lambda: subprocess.run(["mount", "-o", "remount,size=400m", str(place)], check=True)
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_full_disk_stops_the_sweep_cleanly_and_the_same_command_resumes_it(
    tmp_path, small_store, small_disk, ray_address
):
    """Its checkpoints fill it: those of towers are large enough."""
    place, make_room = small_disk
    joined = ["--address", ray_address]
    command = sweep_command(tmp_path, small_store, *joined, results=place / "results", trials=3, epochs=4)
    full = run(*command, code=1)
    assert "No space left on device" in full.stdout
    assert "Finished trials are kept. To resume: gaptune sweep" in full.stdout
    assert "Traceback" not in full.stderr
    folder = place / "results" / "s"
    before = read_events(folder)[0]
    assert not any(event["event"] == "end" and event["state"] == "FAIL" for event in before)
    make_room()
    run(*command)
    record = load(folder)
    assert [trial.state for trial in record.trials.values()] == [State.COMPLETE] * 3
    assert read_events(folder)[0][: len(before)] == before


def test_full_disk_of_the_ledger_stops_the_sweep(tmp_path, small_features, small_disk, ray_address):
    """Checkpoints lie elsewhere; the file system of the ledger fills up while trials run."""
    place, make_room = small_disk
    more = ["--storage", f"file://{tmp_path}/far", "--address", ray_address]
    command = sweep_command(tmp_path, small_features, *more, results=place / "r", trials=4)
    process = Gaptune(*command)
    folder = place / "r" / "s"
    while process.poll() is None:
        time.sleep(0.02)
        if (folder / "ledger.jsonl").exists() and any(e["event"] == "report" for e in read_events(folder)[0]):
            break
    with (place / "filler").open("wb", buffering=0) as filler:
        while process.poll() is None:  # again and again: what SQLite rolls back makes room
            for size in (2**20, 2**12, 1):
                with suppress(OSError):
                    while filler.write(b"x" * size):
                        pass
            time.sleep(0.001)
    assert process.returncode == 1, process.stdout + process.stderr
    assert "No space left on device" in process.stdout
    assert "Traceback" not in process.stderr
    assert not any(event.get("state") == "FAIL" for event in read_events(folder)[0])
    (place / "filler").unlink()
    make_room()
    run(*command)
    assert [trial.state for trial in load(folder).trials.values()] == [State.COMPLETE] * 4


def test_worker_that_ray_ends_for_lack_of_memory_is_not_retried(tmp_path, small_features):
    """Ray's own memory monitor does it, at a limit far below what every machine uses."""
    command = sweep_command(tmp_path, small_features, trials=1, epochs=100_000)
    limit = {"RAY_memory_usage_threshold": "0.01", "RAY_memory_monitor_refresh_ms": "250"}
    done = run(*command, env=os.environ | limit, code=1)
    assert done.stdout.splitlines()[-1].startswith("no trial is complete: 1 of 1 failed with: out of memory")
    (trial,) = load(tmp_path / "results" / "s").trials.values()
    assert trial.state is State.FAIL
    assert trial.reason.startswith("out of memory")
    assert trial.retries == []


def agrees(uri, folder):
    """Every metric value of the ledger is in MLflow, and nothing runs there."""
    record = load(folder)
    client = MlflowClient(tracking_uri=uri)
    runs = client.search_runs([client.get_experiment_by_name("gaptune").experiment_id], max_results=1000)
    children = {int(run.data.tags["gaptune.trial"]): run for run in runs if "gaptune.trial" in run.data.tags}
    assert len(runs) == len(record.trials) + 1
    assert all(run.info.status == "FINISHED" for run in runs)
    for number, trial in record.trials.items():
        for metric in trial.last:
            history = client.get_metric_history(children[number].info.run_id, metric)
            assert [(m.step, m.value) for m in history] == [(r.epoch, r.metrics[metric]) for r in trial.reports]


def said_once_per_outage(out: str) -> bool:
    """Whether MLflow's going away is said, and not again before it has come back (a busy server may go twice)."""
    turns = re.findall(r"MLflow is (unreachable|reachable again)", out)
    return bool(turns) and all(turn == ("unreachable", "reachable again")[i % 2] for i, turn in enumerate(turns))


@pytest.mark.soak
def test_mlflow_server_that_was_down_has_everything_in_the_end(tmp_path, small_features, ray_address):
    outage = 30 if FULL else 5
    server, folder = MlflowServer(tmp_path / "server"), tmp_path / "results" / "s"
    server.start()
    more = ["--tracking-uri", server.uri, "--address", ray_address]
    process = Gaptune(*sweep_command(tmp_path, small_features, *more, trials=12 if FULL else 4, epochs=4))
    try:
        while process.poll() is None:
            time.sleep(0.05)
            if (folder / "ledger.jsonl").exists() and any(e["event"] == "report" for e in read_events(folder)[0]):
                break
        server.kill()
        time.sleep(outage)
        server.start()
        assert process.wait() == 0, process.stdout + process.stderr
        out = process.stdout
        if "MLflow is not up to date" in out:  # the sweep was over before the server was back
            assert "gaptune sync s" in out
            run("sync", "s", "--tracking-uri", server.uri, "--results", tmp_path / "results")
        assert said_once_per_outage(out)
        agrees(server.uri, folder)
    finally:
        server.kill()


@pytest.mark.soak
def test_mlflow_server_that_was_never_up_is_updated_by_sync(tmp_path, small_features, ray_address):
    server, folder = MlflowServer(tmp_path / "server"), tmp_path / "results" / "s"
    more = ["--tracking-uri", server.uri, "--address", ray_address, "--concurrency", "1"]
    done = run(*sweep_command(tmp_path, small_features, *more, trials=2))
    assert done.stdout.count("MLflow is unreachable") == 1
    assert "gaptune sync s" in done.stdout
    server.start()
    try:
        run("sync", "s", "--tracking-uri", server.uri, "--results", tmp_path / "results")
        agrees(server.uri, folder)
    finally:
        server.kill()
