"""A trial on several workers: what Ray reserves for it, and what becomes of its processes on a real cluster."""

import signal
import time
from contextlib import suppress
from dataclasses import replace

import psutil
import pytest
import ray
import torch
from ray import tune
from support import is_alive, trial_workers, write_yaml
from warm import WORKERS, Gaptune, workers_are_warm

from gaptune.config import ResourcesConfig, TrialConfig, unflatten
from gaptune.data import open_store
from gaptune.engine import rank_group
from gaptune.engine.failures import failure_of
from gaptune.engine.machine import OBJECT_STORE
from gaptune.engine.messages import TrialMessage, WorkerMessage
from gaptune.engine.rank_group import RankFailed, RankGroup, placement_of
from gaptune.ledger import State, load, read_events
from gaptune.trial import train
from gaptune.trial.checkpoint import Checkpoints
from gaptune.trial.ranks import RankLost

EPOCHS = 60
MINUTE = 60.0


@pytest.mark.parametrize(
    ("given", "bundles", "ranks"),
    [
        ({"workers": 2, "cpu": 3}, [{"CPU": 3.0}] * 2, 2),
        ({"workers": 2, "cpu": 8, "gpu": 4}, [{"CPU": 8.0, "GPU": 4.0}] * 2, 8),
        ({"cpu": 8, "gpu": 8}, [{"CPU": 8.0, "GPU": 8.0}], 8),
    ],
)
def test_a_trial_of_several_ranks_is_one_group_with_an_empty_head(given, bundles, ranks):
    resources = ResourcesConfig(**{"gpu": 0, **given})
    group = placement_of(resources)
    assert isinstance(group, tune.PlacementGroupFactory)
    assert (group.head_bundle_is_empty, group.bundles, group.strategy) == (True, bundles, "PACK")
    assert resources.ranks == ranks


@pytest.mark.parametrize("given", [{"gpu": 0, "cpu": 2}, {"gpu": 1, "cpu": 2}, {"gpu": 0.25, "cpu": 2}])
def test_a_trial_of_one_rank_is_placed_as_one_process(given):
    assert placement_of(ResourcesConfig(**given)) == given


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"workers": 2, "gpu": 0.5}, "workers: 2 with gpu: 0.5: only a trial of one worker can share a GPU"),
        ({"workers": 2, "gpu": 0, "lanes": 4}, "lanes: 4 with 2 ranks per trial: set lanes to 1 or auto"),
        ({"gpu": 8, "lanes": 2}, "lanes: 2 with 8 ranks per trial"),
        ({"workers": 0}, "greater than or equal to 1"),
    ],
)
def test_what_only_one_rank_can_do_is_refused_for_several(given, told):
    with pytest.raises(ValueError, match=told):
        ResourcesConfig(**given)


@pytest.mark.parametrize(
    ("rank", "told"),
    [
        (
            "The actor died unexpectedly before finishing this task.\nWorker exit detail: it was hit.",
            "worker lost: it was hit. (rank 1 of 2)",
        ),
        (
            "The actor died because its node has died. Node Id: 8f",
            "node lost: The actor died because its node has died. Node Id: 8f (rank 1 of 2)",
        ),
        (
            "ray::Rank.step() (pid=7)\n  File x\nValueError: no",
            "exception: ValueError: no (rank 1 of 2)",
        ),
        (
            "Task was killed due to the node running low on memory.",
            "out of memory: the machine ran short, and Ray ended the worker (rank 1 of 2)",
        ),
    ],
)
def test_the_reason_of_a_rank_is_that_of_a_single_process_with_its_number(rank, told):
    head = "Failure # 1 (occurred at 2026-11-30)\nray::Worker.train() (pid=3)\n  File y\n"
    failure = failure_of(f"{head}gaptune.engine.rank_group.RankFailed: rank 1 of 2 on node 8f\n{rank}\n")
    assert (failure.reason, failure.node) == (told, "8f")


WAITING = "waiting"
REPORT, NOTHING = WorkerMessage((TrialMessage(0, 1, 3),)), WorkerMessage()
FULL = WorkerMessage(failure="out of memory", too_large=True)
NOT_FINITE = WorkerMessage(failure="non-finite: loss")


def scripted(*scripts):
    """Ranks that answer by a script; the class is inside so that Ray sends it whole."""
    waiting = WAITING

    class Scripted:
        """A rank whose steps are what a test says: a message, an exception, or waiting for others forever."""

        def __init__(self, steps):
            self.steps = iter(steps)

        def node(self):
            return "8f"

        def start(self, task, rank):
            return WorkerMessage()

        def address(self):
            return "here:1"

        def join(self, address):
            return WorkerMessage()

        def step(self):
            step = next(self.steps)
            if isinstance(step, Exception):
                raise step
            while step == waiting:
                time.sleep(1)
            return step

    return [ray.remote(num_cpus=0)(Scripted).remote(script) for script in scripts]


@pytest.mark.whole
def test_the_cause_is_reported_and_no_rank_waits_for_one_that_has_failed(local_ray, monkeypatch):
    def after(*scripts):
        ranks = scripted(*scripts)
        monkeypatch.setattr(rank_group, "_actors", lambda task: ranks)
        group = RankGroup()
        group.start(None)
        return group, ranks

    group, ranks = after([REPORT, NOT_FINITE], [NOTHING, NOT_FINITE])
    assert [group.step(), group.step()] == [REPORT, NOT_FINITE]  # alike on all: the ranks are kept
    assert ray.get([rank.node.remote() for rank in ranks]) == ["8f"] * 2
    group.end()
    group, ranks = after([WAITING], [FULL])
    assert group.step() == replace(FULL, failure="out of memory (rank 1 of 2)")
    with pytest.raises(ray.exceptions.RayActorError):
        ray.get(ranks[0].node.remote())
    group, ranks = after([RankLost("connection closed")], [ValueError("the cause")])
    with pytest.raises(RankFailed, match=r"^rank 1 of 2 on node 8f\n(.|\n)*ValueError: the cause"):
        group.step()


@pytest.fixture(scope="module")
def two_small_nodes(gaptune_cache):
    """The address of a head without cores and two nodes of one core each."""
    from ray.cluster_utils import Cluster

    workers_are_warm()
    node = {"include_dashboard": False, "object_store_memory": OBJECT_STORE, **WORKERS}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **node})
    for _ in range(2):
        cluster.add_node(num_cpus=1, object_store_memory=OBJECT_STORE, **WORKERS)
    cluster.wait_for_nodes()
    yield cluster.address
    cluster.shutdown()


def processes(kind):
    """The ranks of trials, or the actors that wait for them."""
    found = []
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.Error, IndexError):  # it has just ended
            if child.cmdline()[0].startswith(f"ray::{kind}"):
                found.append(child)
    return found


def wait_until(true):
    deadline = time.monotonic() + MINUTE
    while not true():
        assert time.monotonic() < deadline, "it has not happened"
        time.sleep(0.02)


def sweep(folder, store, address, *, more="", **yaml):
    space, config = write_yaml(folder, store, more=f"resources: {{workers: 2}}\n{more}", **yaml)
    told = "--name", "s", "--results", folder / "results", "--address", address
    return Gaptune("sweep", space, "--config", config, *told)


def reports(folder):
    there = folder / "results" / "s" / "ledger.jsonl"
    return [event for event in (read_events(there.parent)[0] if there.exists() else []) if event["event"] == "report"]


def single(trial, store, checkpoints):
    """The metrics of a trial trained by this process alone, which leaves its checkpoint."""
    config = TrialConfig.model_validate({**unflatten(trial.config), "device": "cpu"})
    return [report.metrics for report in train(config, open_store(store), checkpoints=checkpoints)]


@pytest.mark.whole
@pytest.mark.timeout(600)
def test_trials_of_two_workers_measure_what_one_process_does_and_leave_no_process(
    tmp_path, small_features, two_small_nodes
):
    stopping = "early_stopping: {method: random, reduction_factor: 2, min_fraction: 0.25}\n"
    process = sweep(tmp_path, small_features, two_small_nodes, trials=3, epochs=4, more=stopping)
    seen = set()
    while process.poll() is None:
        seen |= {rank.pid for rank in processes("Rank")}
        time.sleep(0.05)
    assert process.returncode == 0, process.stdout + process.stderr
    assert "each trial gets 2 workers (2 ranks), each 1 CPU, no GPU" in process.stdout
    assert len(seen) == 2  # the ranks of one trial train the next
    wait_until(lambda: not processes("Rank"))
    trials = load(tmp_path / "results" / "s").trials
    assert {trial.state for trial in trials.values()} == {State.COMPLETE, State.PRUNED}
    for number, trial in trials.items():
        expected = single(trial, small_features, tmp_path / f"single-{number}")
        assert 1 <= len(trial.reports) <= len(expected)
        for report, metrics in zip(trial.reports, expected, strict=False):
            told = {name: value for name, value in metrics.items() if not name.startswith("time/")}
            assert {name: report.metrics[name] for name in told} == pytest.approx(told, abs=1e-5)


@pytest.mark.whole
@pytest.mark.timeout(600)
def test_a_trial_whose_processes_are_killed_resumes_to_the_same_weights(tmp_path, small_features, two_small_nodes):
    process = sweep(tmp_path, small_features, two_small_nodes, trials=1, epochs=EPOCHS)

    def some(kind, before=0):
        wait_until(lambda: len(reports(tmp_path)) > before or process.poll() is not None)
        assert process.poll() is None, process.stdout + process.stderr
        return processes(kind)

    some("Rank")[-1].kill()
    reported = len(reports(tmp_path))
    wait_until(lambda: len(load(tmp_path / "results" / "s").trials[0].retries) == 1)
    ranks = some("Rank", reported + 1)
    next(trial_workers()).kill()
    wait_until(lambda: not any(map(is_alive, ranks)))
    assert process.wait(timeout=400) == 0, process.stdout + process.stderr
    folder = tmp_path / "results" / "s"
    trial = load(folder).trials[0]
    assert (trial.state, [report.epoch for report in trial.reports]) == (State.COMPLETE, [*range(1, EPOCHS + 1)])
    assert [reason.partition(":")[0] for reason in trial.retries] == ["worker lost"] * 2
    assert " of 2)" in trial.retries[0]
    assert "rank " in (folder / "trials" / "0000" / "error.txt").read_text()
    single(trial, small_features, tmp_path / "single")
    got, expected = (Checkpoints(each).load()["model"] for each in (folder / "trials" / "0000", tmp_path / "single"))
    for name, weight in expected.items():
        torch.testing.assert_close(got[name], weight, rtol=0, atol=1e-6)


@pytest.mark.whole
@pytest.mark.timeout(600)
def test_a_stopped_sweep_leaves_no_rank(tmp_path, small_features, two_small_nodes):
    process = sweep(tmp_path, small_features, two_small_nodes, trials=1, epochs=100_000)
    wait_until(lambda: reports(tmp_path))
    assert len(processes("Rank")) == 2
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 143, process.stdout + process.stderr
    wait_until(lambda: not processes("Rank"))


@pytest.mark.whole
def test_more_workers_than_all_machines_can_run_are_refused(tmp_path, small_features, two_small_nodes):
    space, config = write_yaml(tmp_path, small_features, more="resources: {workers: 3}\n")
    told = "--name", "s", "--results", tmp_path / "results", "--address", two_small_nodes
    process = Gaptune("sweep", space, "--config", config, *told)
    assert process.wait() == 2
    most = f"the cluster at {two_small_nodes} can run 2, and no further node can be started"
    assert f"each trial needs 3 workers of 1 CPU at the same time; {most}; see resources.workers" in process.stderr
