"""Real clusters on loopback: two nodes of which one is killed, trials that fit nowhere."""

import time
from contextlib import suppress

import psutil
import pytest
import torch
from ray.cluster_utils import Cluster
from support import free_port, trial_workers, write_yaml
from warm import LEAN, WORKERS, Gaptune, run, workers_are_warm

from gaptune.ledger import State, load, parse_events, read_events
from gaptune.ledger.backup import stored_ledger
from gaptune.storage.folder import Folder
from gaptune.trial.checkpoint import Checkpoints

pytestmark = [pytest.mark.whole, pytest.mark.timeout(600)]

HEAD = {"num_cpus": 0, "include_dashboard": False} | LEAN
EPOCHS = 150
"""Seconds: the second of two trials has begun long before the first ends, however slowly its worker starts."""


def sweep_command(folder, store, *more, **yaml):
    space, config = write_yaml(folder, store, **yaml)
    return ["sweep", space, "--config", config, "--name", "s", "--results", folder / "results", *more]


def events(folder):
    sweep = folder / "results" / "s"
    return read_events(sweep)[0] if (sweep / "ledger.jsonl").exists() else []


@pytest.fixture(scope="module")
def two_nodes():
    """A head without cores and two nodes of one core each."""
    cluster = Cluster(initialize_head=True, head_node_args=HEAD)
    nodes = [cluster.add_node(num_cpus=1, **LEAN) for _ in range(2)]
    cluster.wait_for_nodes()
    yield cluster, nodes
    cluster.shutdown()


def weights(folder, number):
    state = Checkpoints(folder / f"{number:04d}").load()
    return state["model"], state["report"]["epoch"]


def test_a_trial_that_fits_on_no_machine_is_refused_at_once(tmp_path, small_features, two_nodes):
    cluster, _ = two_nodes
    command = sweep_command(tmp_path, small_features, "--address", cluster.address, more="resources: {cpu: 2}\n")
    done = run(*command, code=2)
    assert "each trial needs 2 CPU on one machine" in done.stderr
    assert "at most 1 CPU" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "results").exists()


def test_address_without_cluster_is_one_clear_line(tmp_path, small_features):
    port = free_port()
    command = sweep_command(tmp_path, small_features, "--address", f"127.0.0.1:{port}")
    done = run(*command, code=2)
    assert f"no Ray cluster at 127.0.0.1:{port}" in done.stderr


def test_a_killed_node_loses_nothing_and_its_trials_end_with_the_same_weights(
    tmp_path, small_features, two_nodes, ray_address
):
    """The storage carries the checkpoints: nodes share no folder of their own."""
    cluster, nodes = two_nodes
    calm, struck = tmp_path / "calm", tmp_path / "struck"
    for folder in (calm, struck):
        folder.mkdir()
    run(*sweep_command(calm, small_features, "--address", ray_address, trials=2, epochs=EPOCHS))
    joined = "--address", cluster.address
    storage = "--storage", f"file://{tmp_path}/far"
    process = Gaptune(*sweep_command(struck, small_features, *joined, *storage, trials=2, epochs=EPOCHS))
    while process.poll() is None and len({e["trial"] for e in events(struck) if e["event"] == "report"}) < 2:
        time.sleep(0.02)
    raylets = [psutil.Process(node.all_processes["raylet"][0].process.pid) for node in nodes]
    kill_node(nodes[[any(trial_workers(raylet)) for raylet in raylets].index(True)])
    assert process.wait(timeout=400) == 0, process.stdout + process.stderr
    record = load(struck / "results" / "s")
    assert [trial.state for trial in record.trials.values()] == [State.COMPLETE] * 2
    retries = [reason for trial in record.trials.values() for reason in trial.retries]
    assert len(retries) == 1, retries
    assert retries[0].startswith("node lost: ")
    for number in range(2):
        assert [report.epoch for report in record.trials[number].reports] == list(range(1, EPOCHS + 1))
        expected, _ = weights(calm / "results" / "s" / "trials", number)
        got, epoch = weights(tmp_path / "far" / "s" / "trials", number)
        assert epoch == EPOCHS
        assert all(torch.equal(expected[name], got[name]) for name in expected)
    stored = stored_ledger(Folder(f"file://{tmp_path}/far/s"))
    assert stored == (struck / "results/s/ledger.jsonl").read_bytes()


def test_another_machine_resumes_from_the_storage(tmp_path, small_features, ray_address):
    """Another results folder stands for another machine: all that it has is the storage."""
    first, second = tmp_path / "first", tmp_path / "second"
    more = ["--storage", f"file://{tmp_path}/far", "--address", ray_address]
    for folder in (first, second):
        folder.mkdir()
    process = Gaptune(*sweep_command(first, small_features, *more, trials=4, epochs=20))
    far = Folder(f"file://{tmp_path}/far/s")

    def ends():
        return [event for event in parse_events(stored_ledger(far))[0] if event["event"] == "end"]

    while process.poll() is None and not ends():
        time.sleep(0.02)
    process.kill()
    process.wait()
    before = ends()
    assert 1 <= len(before) < 4
    done = run(*sweep_command(second, small_features, *more, trials=4, epochs=20))
    assert "continuing with the ledger of" in done.stdout
    record = load(second / "results" / "s")
    assert [trial.state for trial in record.trials.values()] == [State.COMPLETE] * 4
    assert [e for e in events(second) if e["event"] == "end"][: len(before)] == before
    assert parse_events(stored_ledger(far))[0] == events(second)


def kill_node(node, *workers):
    """As when the plug is pulled: its workers die too, those that it has forked and others."""
    raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
    for one in [raylet, *raylet.children(recursive=True), *workers]:
        with suppress(psutil.NoSuchProcess):
            one.kill()


def test_a_trial_that_loses_its_node_three_times_completes_on_a_fourth(tmp_path, small_features):
    workers_are_warm()
    cluster = Cluster(initialize_head=True, head_node_args=HEAD)
    try:
        command = sweep_command(tmp_path, small_features, "--address", cluster.address, trials=1, epochs=EPOCHS)
        node = cluster.add_node(num_cpus=1, node_name="spot-0", **WORKERS)
        process, reports = Gaptune(*command), 0
        for count in range(1, 4):
            while process.poll() is None and sum(e["event"] == "report" for e in events(tmp_path)) <= reports:
                time.sleep(0.02)
            kill_node(node, *trial_workers())
            node = cluster.add_node(num_cpus=1, node_name=f"spot-{count}", **WORKERS)
            reports = sum(e["event"] == "report" for e in events(tmp_path))
        assert process.wait(timeout=400) == 0, process.stdout + process.stderr
    finally:
        cluster.shutdown()
    (trial,) = load(tmp_path / "results" / "s").trials.values()
    assert trial.state is State.COMPLETE
    assert trial.retries == [f"node lost: spot-{number}" for number in range(3)]
    starts = [event["node"] for event in events(tmp_path) if event["event"] == "start"]
    assert starts == [f"spot-{number}" for number in range(4)]
