"""MLflow as the ledger's mirror, against real stores: SQLite, and a real server that comes and goes."""

import time

import pytest
from mlflow import MlflowClient
from mlflow_server import MlflowServer
from support import Stage, free_port

from gaptune.ledger import read_events
from gaptune.space.methods import expand_method
from gaptune.tracking import Mirror, Tracker, default_uri

pytestmark = pytest.mark.usefixtures("mlflow_tables")


def scores(number, epoch):
    return {
        "retrieval/mean_r1": 0.1 * number + 0.01 * epoch,
        "geometry/gap": 1.0 / (1 + number + epoch),
        "temperature/tau": 0.07,
    }


def play(stage, *, close=None):
    """Four trials: complete, complete, failed, under way."""
    for number in range(4):
        stage.orchestrator.next_trial()
        stage.orchestrator.started(number, "node-1")
        stage.orchestrator.reported(number, 1, 10, scores(number, 1))
    for number in range(2):
        stage.orchestrator.reported(number, 2, 20, scores(number, 2))
    stage.orchestrator.failed(2, "out of memory: x")
    if close is not None:
        stage.orchestrator.close(close)


def finish(stage):
    while (trial := stage.orchestrator.next_trial()) is not None:
        stage.orchestrator.started(trial.number, "node-2")
        for epoch in (1, 2):
            stage.orchestrator.reported(trial.number, epoch, 10 * epoch, scores(trial.number, epoch))
    stage.orchestrator.close(None)


def runs(uri):
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("gaptune")
    found = client.search_runs([experiment.experiment_id], max_results=1000)
    parents = [run for run in found if "gaptune.sweep_id" in run.data.tags]
    children = {int(run.data.tags["gaptune.trial"]): run for run in found if "gaptune.trial" in run.data.tags}
    return client, parents, children


def assert_equal_to_ledger(uri, record, *, open_status="RUNNING"):
    client, (parent,), children = runs(uri)
    assert set(children) == set(record.trials)
    for number, trial in record.trials.items():
        run = children[number]
        assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert run.data.tags["method"] == trial.method
        assert run.data.params == {name: str(value) for name, value in expand_method(trial.params).items()}
        expected = {"COMPLETE": "FINISHED", "FAIL": "FAILED", "PRUNED": "KILLED"}.get(trial.state, open_status)
        assert run.info.status == expected
        assert run.data.tags.get("reason") == trial.reason
        names = {name for report in trial.reports for name in report.metrics}
        for name in names:
            history = client.get_metric_history(run.info.run_id, name)
            got = sorted((metric.step, metric.value, metric.timestamp) for metric in history)
            assert got == [(r.epoch, r.metrics[name], int(r.at * 1000)) for r in trial.reports]
    return parent


@pytest.fixture
def uri(tmp_path):
    return default_uri(tmp_path)


def test_params_and_metrics_are_read_back_equal_to_the_ledger(tmp_path, uri):
    stage = Stage(tmp_path / "s")
    play(stage)
    mirror = Mirror(uri, tmp_path)
    mirror.write(stage.record)
    mirror.add_files(stage.record)
    parent = assert_equal_to_ledger(uri, stage.record)
    assert parent.info.run_name == "s"
    assert parent.data.params["training.epochs"] == "2"
    assert "temperature.tau_start" not in parent.data.params  # it varied: it belongs to the children
    (dataset,) = parent.inputs.dataset_inputs
    assert dataset.dataset.name == "scenes"
    artifacts = MlflowClient(tracking_uri=uri).list_artifacts(parent.info.run_id)
    assert [artifact.path for artifact in artifacts] == ["space.yaml", "sweep.yaml"]


def test_writing_everything_again_changes_nothing(tmp_path, uri):
    stage = Stage(tmp_path / "s")
    play(stage)
    Mirror(uri, tmp_path).write(stage.record)
    Mirror(uri, tmp_path).write(stage.record)
    assert_equal_to_ledger(uri, stage.record)


def test_a_tracker_follows_event_by_event_and_closes_the_sweep(tmp_path, uri):
    said = []
    tracker = None
    stage = Stage(tmp_path / "s", listeners=(lambda event: tracker(event),))
    tracker = Tracker(Mirror(uri, tmp_path), stage.record, read_events(tmp_path / "s")[0], said.append)
    play(stage)
    stage.orchestrator.reported(3, 2, 20, scores(3, 2))
    finish(stage)
    assert tracker.close()
    parent = assert_equal_to_ledger(uri, stage.record)
    assert parent.info.status == "FINISHED"
    assert said == []


def test_an_interrupted_sweep_leaves_no_run_running_and_is_mended_by_the_next_driver(tmp_path, uri):
    first = Stage(tmp_path / "s")
    play(first, close="interrupted")
    first.ledger.close()
    Mirror(uri, tmp_path).write(first.record)
    parent = assert_equal_to_ledger(uri, first.record, open_status="KILLED")
    assert parent.info.status == "KILLED"

    second = Stage(tmp_path / "s")
    tracker = None
    second.ledger.append({"event": "session", "at": 50.0})
    second.record.apply({"event": "session", "at": 50.0})
    tracker = Tracker(Mirror(uri, tmp_path), second.record, read_events(tmp_path / "s")[0], print)
    second.orchestrator._listeners = (tracker,)
    finish(second)
    assert tracker.close()
    assert assert_equal_to_ledger(uri, second.record).info.status == "FINISHED"


@pytest.mark.whole
def test_server_that_is_down_twice_is_updated_and_reported_once_each(tmp_path):
    server, said = MlflowServer(tmp_path / "server"), []
    stage = Stage(tmp_path / "s")
    mirror = Mirror(server.uri, tmp_path)
    tracker = Tracker(mirror, stage.record, read_events(tmp_path / "s")[0], said.append)
    stage.orchestrator._listeners = (tracker,)
    play(stage)
    deadline = time.monotonic() + 120
    while not said and time.monotonic() < deadline:
        time.sleep(0.1)
    assert len(said) == 1
    assert "Trials continue" in said[0]
    server.start()
    while len(said) < 2 and time.monotonic() < deadline + 120:
        time.sleep(0.1)
    server.kill()
    assert said[1] == "MLflow is reachable again and up to date"
    stage.orchestrator.reported(3, 2, 20, scores(3, 2))  # down again
    finish(stage)
    server.start()
    try:
        assert tracker.close(patience=120)
        assert_equal_to_ledger(server.uri, stage.record)
    finally:
        server.kill()


def test_unreachable_server_delays_the_end_for_a_limited_time(tmp_path):
    said = []
    stage = Stage(tmp_path / "s")
    mirror = Mirror(f"http://127.0.0.1:{free_port()}", tmp_path)
    tracker = Tracker(mirror, stage.record, read_events(tmp_path / "s")[0], said.append)
    started = time.monotonic()
    assert not tracker.close(patience=1.0)
    assert time.monotonic() - started < 40
    assert len(said) == 1
