"""Workers that train several trials as lanes: ledger, checkpoints and MLflow are those of trials that run alone."""

import io
import os
import shutil
import signal
import time

import pytest
import torch
from mlflow import MlflowClient
from rich.console import Console
from support import sweep_config, trial_workers, write_yaml

from gaptune.config import load_sweep_config
from gaptune.console.live import Display
from gaptune.console.plan import describe_plan
from gaptune.data.open import open_store
from gaptune.engine import session
from gaptune.engine.lanes import Lanes, lanes_of
from gaptune.engine.over import read_over, tell_over
from gaptune.engine.plan import prepare
from gaptune.engine.worker import Worker
from gaptune.ledger import State, read_events
from gaptune.ledger.trial_file import read
from gaptune.space.parse import load_space
from gaptune.tracking import default_uri
from gaptune.trial.checkpoint import Checkpoints

EPOCHS = 8
IN_LANES = "resources: {lanes: 3, cpu: 2}\n"  # one worker at a time
ALONE = "resources: {lanes: 1, cpu: 2}\n"
RATES = """
params:
  temperature.schedule: constant
  optimizer.lr: {log_uniform: [1.0e-4, 1.0e+30]}
points_to_evaluate:
  - {optimizer.lr: 0.001}
  - {optimizer.lr: 1.0e+30}
"""


def planned(folder, store, *, seeds=1, space=None, **yaml):
    folder.mkdir(exist_ok=True)
    space_file, config = write_yaml(folder, store, **{"more": IN_LANES, "epochs": EPOCHS, **yaml})
    config.write_text(config.read_text().replace("search: {", f"search: {{seeds: {seeds}, "))
    if space:
        space_file.write_text(space)
    told = {"name": "s", "results": folder / "results", "now": time.time(), "command": ""}
    return prepare(load_space(space_file), load_sweep_config(config), **told)


class Watched(Display):
    """Calls a function after each event, in the driver, which waits for it; collects how far trials are."""

    def __init__(self, on_event, positions):
        super().__init__(Console(file=io.StringIO()))
        self.on_event, self.positions = on_event, positions

    def progress(self, number, epochs):
        self.positions[number] = epochs

    def __call__(self, event):
        super().__call__(event)
        self.on_event(event)


def sweep(folder, store, *, on_event=lambda event: None, positions=None, **how):
    """Runs a sweep in a directory of its own; returns its final state."""
    plan = planned(folder, store, **how)
    with Watched(on_event, {} if positions is None else positions) as display:
        results = folder / "results"
        return session.run(plan, display=display, results=results, tracking_uri=None, address=None, clock=time.time)


def trial_folder(folder, number):
    return folder / "results" / "s" / "trials" / f"{number:04d}"


def contents(record):
    """What a ledger says of each trial but for times and machines."""
    return {
        number: (trial.candidate, trial.params, trial.config, trial.state, trial.reason, reports(trial))
        for number, trial in record.trials.items()
    }


def reports(trial):
    return [
        (
            one.epoch,
            one.step,
            {name: pytest.approx(v, abs=1e-3) for name, v in one.metrics.items() if "time/" not in name},
        )
        for one in trial.reports
    ]


def assert_same_weights(folder, other, numbers):
    for number in numbers:
        mine, theirs = (Checkpoints(trial_folder(each, number)).load()["model"] for each in (folder, other))
        assert mine.keys() == theirs.keys()
        for name in mine:
            torch.testing.assert_close(mine[name], theirs[name], rtol=1e-3, atol=1e-4)


def started_together(folder):
    """The trials that started without anything else between them."""
    groups, before = [], None
    for event in read_events(folder / "results" / "s")[0]:
        if event["event"] == "start":
            groups = [*groups[:-1], [*groups[-1], event["trial"]]] if before == "start" else [*groups, [event["trial"]]]
        before = event["event"]
    return groups


@pytest.fixture(scope="module")
def alone(tmp_path_factory, small_features, local_ray):
    """A sweep whose trials run alone, and its final state."""
    folder = tmp_path_factory.mktemp("lanes") / "alone"
    return folder, sweep(folder, small_features, more=ALONE)


@pytest.fixture(scope="module")
def lanes(tmp_path_factory, small_features, local_ray):
    """The same sweep in lanes."""
    folder = tmp_path_factory.mktemp("lanes") / "lanes"
    return folder, sweep(folder, small_features)


def test_a_sweep_in_lanes_has_the_ledger_and_the_weights_of_one_without(lanes, alone):
    (folder, record), (other, expected) = lanes, alone
    assert started_together(folder) == [[0, 1, 2], [3]]
    assert contents(record) == contents(expected)
    assert record.done
    assert_same_weights(folder, other, range(4))
    for number in range(4):
        names = [{path.name for path in trial_folder(each, number).iterdir()} for each in (folder, other)]
        assert names[0] == names[1]


def test_runs_of_lanes_in_mlflow_are_those_of_single_trials(lanes, alone):
    found = []
    for folder, record in (lanes, alone):
        client = MlflowClient(tracking_uri=default_uri(folder / "results"))
        experiment = client.get_experiment_by_name("gaptune").experiment_id
        runs = client.search_runs([experiment], "tags.`gaptune.trial` LIKE '%'")
        assert len(runs) == len(record.trials)
        found.append(
            {
                run.data.tags["gaptune.trial"]: (
                    run.info.status,
                    run.data.params,
                    run.data.tags.keys(),
                    run.data.metrics.keys(),
                    [point.step for point in client.get_metric_history(run.info.run_id, "geometry/gap")],
                )
                for run in runs
            }
        )
    assert found[0] == found[1]


def test_early_stopping_stops_single_lanes_which_train_no_further(tmp_path, small_features, local_ray):
    """Its worker is told before it takes another step: the file that it writes has no later report."""
    more = "early_stopping: {method: asha, min_fraction: 0.3}\n" + IN_LANES
    record = sweep(tmp_path, small_features, more=more, trials=6)
    together = [{record.trials[number].state for number in group} for group in started_together(tmp_path)]
    assert {State.PRUNED, State.COMPLETE} in together
    for trial in record.trials.values():
        kept = read((trial_folder(tmp_path, trial.number) / "trial.jsonl").read_bytes())
        assert [event["epoch"] for event in kept[1:]] == [report.epoch for report in trial.reports]
        assert [report.epoch for report in trial.reports] == list(range(1, trial.epoch + 1))


def test_a_lane_that_is_not_finite_fails_alone_with_the_other_seed_of_its_candidate(
    tmp_path, small_features, local_ray
):
    more = "resources: {lanes: 4, cpu: 2}\n"
    record = sweep(tmp_path, small_features, more=more, space=RATES, seeds=2, trials=2, epochs=3)
    assert started_together(tmp_path) == [[0, 1, 2, 3]]
    fine, other, bad, sibling = record.trials.values()
    assert (fine.state, other.state) == (State.COMPLETE, State.COMPLETE)
    assert (bad.state, sibling.state) == (State.FAIL, State.FAIL)
    assert bad.reason.startswith("non-finite: ")
    assert sibling.reason in ("seed 0 failed", bad.reason)
    assert not any(trial.retries for trial in record.trials.values())


def test_an_error_of_one_trial_fails_it_alone_after_its_group_was_halved(tmp_path, small_features, alone):
    """A checkpoint of another trial where its own should be: no worker can resume from it."""

    def block(event):
        if event["event"] == "trial" and event["trial"] == 0:
            shutil.copytree(trial_folder(alone[0], 3), trial_folder(tmp_path, 0))

    record = sweep(tmp_path, small_features, trials=3, on_event=block)
    bad, *fine = record.trials.values()
    assert started_together(tmp_path) == [[0, 1, 2], [0, 1], [2], [0], [1]]
    assert bad.state is State.FAIL
    assert [reason.rpartition(" (with ")[::2] for reason in bad.retries] == [
        (bad.reason, "3 lanes)"),
        (bad.reason, "2 lanes)"),
    ]
    assert [trial.state for trial in fine] == [State.COMPLETE] * 2
    assert [len(trial.retries) for trial in fine] == [2, 1]


def test_a_killed_worker_resumes_all_lanes_to_the_same_weights(tmp_path, small_features, alone, monkeypatch):
    for interval in ("ray_tune._LOOK_S", "heartbeat._WRITE_S"):  # trials last a second or two
        monkeypatch.setattr(f"gaptune.engine.{interval}", 0.0)
    positions = {}

    def strike(event):
        if event["event"] == "report" and (event["trial"], event["epoch"]) == (1, 4):
            for worker in trial_workers():
                worker.kill()

    record = sweep(tmp_path, small_features, trials=3, on_event=strike, positions=positions)
    assert positions.keys() == {0, 1, 2}
    assert all(0 < epochs <= EPOCHS for epochs in positions.values())
    assert started_together(tmp_path) == [[0, 1, 2], [0, 1, 2]]
    for trial in record.trials.values():
        (lost,) = trial.retries
        assert lost.startswith("worker lost")
        assert "Failure # 1" in (trial_folder(tmp_path, trial.number) / "error.txt").read_text()
        assert reports(trial) == reports(alone[1].trials[trial.number])
    assert_same_weights(tmp_path, alone[0], range(3))


def test_an_interrupted_sweep_continues_with_the_same_lanes(tmp_path, small_features, alone):
    def interrupt(event):
        if event["event"] == "report" and (event["trial"], event["epoch"]) == (1, 4):
            os.kill(os.getpid(), signal.SIGTERM)

    interrupted = sweep(tmp_path, small_features, on_event=interrupt)
    assert interrupted.paused == "stopped by SIGTERM"
    assert not any(trial.state.ended for trial in interrupted.trials.values())
    record = sweep(tmp_path, small_features)
    assert started_together(tmp_path) == [[0, 1, 2], [0, 1, 2], [3]]
    assert contents(record) == contents(alone[1])
    assert_same_weights(tmp_path, alone[0], range(4))


def test_a_worker_asks_before_each_step_which_of_its_trials_are_over(tmp_path, small_features, local_ray, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")  # and back after the test, like the working folder
    monkeypatch.chdir(tmp_path)
    config = {"model": {"name": "heads", "width": 16}, "training": {"epochs": 3, "batch_size": 64}}
    trials = [
        {
            "number": number,
            "config": config | {"seed": number},
            "event": {"event": "trial", "trial": number, "sweep_id": "x", "config": config},
            "checkpoints": str(tmp_path / f"{number:04d}"),
        }
        for number in (4, 7, 9)
    ]
    task = {
        "trials": trials,
        "data": {"store": str(small_features)},
        "weights": None,
        "workers": 1,
        "cpu": 1,
        "gpu": 0.0,
    }
    worker = Worker(task | {"folder": str(tmp_path), "place": f"{tmp_path}/a", "system_metrics": True})
    first = worker.step()["trials"]
    assert [one["number"] for one in first] == [4, 7, 9]
    used = [{name: value for name, value in one["metrics"].items() if "system/" in name} for one in first]
    assert used[0].keys() == {"system/cpu_percent", "system/memory_mb"}
    assert used[0] == used[1] == used[2]
    tell_over(f"{tmp_path}/a", {7})
    assert read_over(f"{tmp_path}/a") == {7}
    assert [one["number"] for one in worker.step()["trials"]] == [4, 9]
    assert {path.name: len(read(path.joinpath("trial.jsonl").read_bytes())) for path in tmp_path.iterdir()} == {
        "0004": 3,
        "0007": 2,
        "0009": 3,
    }
    worker.cleanup()


@pytest.mark.parametrize(
    ("model", "wanted", "gpus", "found"),
    [
        ("scenes-tiny", "auto", 0.0, Lanes(1, "a CPU trains trials faster one by one")),
        ("scenes-tiny", "auto", 1.0, Lanes(16, "a small model leaves most of a GPU idle")),
        ("RN50", "auto", 1.0, Lanes(1, "RN50 is large enough to keep a GPU busy")),
        ("RN50", 1, 1.0, Lanes(1)),
        ("scenes-tiny", 4, 0.0, Lanes(4)),
    ],
)
def test_small_models_get_lanes_on_a_gpu_unless_the_sweep_says_how_many(model, wanted, gpus, found, small_store):
    sweep = sweep_config(model={"name": model}, resources={"lanes": wanted})
    resources = sweep.resources.model_copy(update={"gpu": gpus})
    assert lanes_of(sweep, open_store(small_store), resources) == found


def test_a_model_that_cannot_be_trained_in_lanes_is_trained_alone_and_the_plan_says_why(small_store, monkeypatch):
    monkeypatch.setattr("gaptune.trial.lanes.why_not", lambda config, store: "its tower has no vmap")
    sweep = sweep_config(model={"name": "scenes-tiny"}, resources={"lanes": 4, "gpu": 1.0})
    lanes = lanes_of(sweep, open_store(small_store), sweep.resources)
    assert str(lanes) == "1 (trials run alone: its tower has no vmap)"


@pytest.mark.parametrize(
    ("more", "line", "disk"),
    [
        ("", "lanes      1 (a CPU trains trials faster one by one)", 2),
        ("resources: {lanes: 3, concurrency: 1}\n", "lanes      3", 3),
    ],
)
def test_the_plan_says_how_many_lanes_and_the_disk_that_their_checkpoints_need(
    tmp_path, small_features, more, line, disk, monkeypatch
):
    monkeypatch.setattr("gaptune.engine.placement.available_cores", lambda: 2)
    out = io.StringIO()
    Console(file=out, width=200).print(describe_plan(planned(tmp_path / "a", small_features, more=more)))
    assert line in [row.rstrip() for row in out.getvalue().splitlines()]
    assert f" for {disk} in parallel" in out.getvalue()
