"""Whole sweeps on real Ray with real trainings: from two YAML files to the front in MLflow."""

import base64
import io
import json
import os
import shutil
import threading
import time
from contextlib import contextmanager

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from mlflow import MlflowClient
from PIL import Image
from rich.console import Console
from support import trial_workers, write_yaml

from gaptune.cli import cli
from gaptune.config import load_sweep_config
from gaptune.console.live import Display
from gaptune.data.open import open_store
from gaptune.data.tokens import tokenize
from gaptune.engine.evaluate_front import evaluate_front
from gaptune.engine.plan import prepare
from gaptune.engine.session import run
from gaptune.engine.signals import Stop
from gaptune.engine.worker import Worker
from gaptune.errors import UserError
from gaptune.ledger import Ledger, State, load, read_events
from gaptune.ledger.trial_file import read
from gaptune.results import summarize
from gaptune.search.orchestrator import Orchestrator
from gaptune.space.parse import load_space
from gaptune.tracking import default_uri
from gaptune.trial.checkpoint import read_checkpoint
from gaptune.trial.loop import trained_model


def sweep(tmp_path, store, *, name="s", **yaml):
    space, config = write_yaml(tmp_path, store, **yaml)
    out = io.StringIO()
    results = tmp_path / "results"
    plan = prepare(
        load_space(space), load_sweep_config(config), name=name, results=results, now=time.time(), command=""
    )
    with Display(Console(file=out, width=200)) as display:
        record = run(plan, display=display, results=results, tracking_uri=None, address=None, clock=time.time)
    return record, results / name, out.getvalue()


@pytest.fixture(scope="module")
def finished(tmp_path_factory, small_store, local_ray):
    folder = tmp_path_factory.mktemp("finished")
    with workers_seen() as seen:
        ended = sweep(folder, small_store)
    (folder / "workers").write_text(str(len(seen)))
    return folder, *ended


@contextmanager
def workers_seen():
    """The ids of the processes below this one that run trials, collected until the context is left."""
    seen, done = set(), threading.Event()

    def look():
        while not done.wait(0.05):
            seen.update(worker.pid for worker in trial_workers())

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    yield seen
    done.set()
    thread.join()


def test_every_trial_is_complete_with_its_full_budget(finished):
    _, record, folder, _ = finished
    assert [trial.state for trial in record.trials.values()] == [State.COMPLETE] * 4
    assert all([report.epoch for report in trial.reports] == [1, 2] for trial in record.trials.values())
    assert record.trials[0].params["temperature.tau_start"] == 0.05
    assert record.done
    assert load(folder) == record


def test_the_folder_has_what_a_person_looks_for(finished):
    _, _, folder, _ = finished
    for file in ("ledger.jsonl", "space.yaml", "sweep.yaml", "study.journal", "front.png", "results.parquet"):
        assert (folder / file).stat().st_size > 0
    assert sorted(path.name for path in (folder / "trials").iterdir()) == ["0000", "0001", "0002", "0003"]
    for trial in (folder / "trials").iterdir():  # of a complete trial its weights, and no optimizer
        assert sorted(path.name for path in trial.glob("*.[pn][tp]*")) == [
            *("epoch-0002.pt", "outcomes.npz", "sample.npz"),
        ]


def test_mlflow_reads_back_what_the_ledger_says(finished):
    base, record, _, _ = finished
    client = MlflowClient(tracking_uri=default_uri(base / "results"))
    experiment = client.get_experiment_by_name("gaptune")
    runs = client.search_runs([experiment.experiment_id])
    children = {int(run.data.tags["gaptune.trial"]): run for run in runs if "gaptune.trial" in run.data.tags}
    (parent,) = [run for run in runs if "gaptune.sweep_id" in run.data.tags]
    assert parent.info.status == "FINISHED"
    assert "sweep/hypervolume" in parent.data.metrics
    assert {file.path for file in client.list_artifacts(parent.info.run_id)} >= {
        "front.png",
        "results.parquet",
    }
    for number, trial in record.trials.items():
        run = children[number]
        assert run.info.status == "FINISHED"
        assert run.data.params == {name: str(value) for name, value in trial.params.items()}
        for name in ("geometry/gap", "temperature/tau", "retrieval/mean_r1", "probe/top1"):
            history = client.get_metric_history(run.info.run_id, name)
            assert [(m.step, m.value) for m in history] == [(r.epoch, r.metrics[name]) for r in trial.reports]


def test_the_tag_front_finds_exactly_the_front_and_the_note_says_how_it_ended(finished):
    base, record, folder, _ = finished
    client = MlflowClient(tracking_uri=default_uri(base / "results"))
    experiment = client.get_experiment_by_name("gaptune").experiment_id
    tagged = client.search_runs([experiment], "tags.front = 'true'", order_by=["tags.front_rank"])
    assert [int(run.data.tags["gaptune.trial"]) for run in tagged] == [
        member.trial.number for member in summarize(record).front
    ]
    runs = json.loads((folder / "mlflow.json").read_text())
    assert {int(number) for number in runs["trials"]} == set(record.trials)
    parent = client.get_run(runs["sweep"])
    assert "Pareto-optimal" in parent.data.tags["mlflow.note.content"]
    assert "report.html" in {file.path for file in client.list_artifacts(runs["sweep"])}
    assert runs["trials"]["0"] in (folder / "report.html").read_text()


def test_registered_model_embeds_image_and_text_as_its_checkpoint_does(finished, small_store, monkeypatch):
    base, record, folder, _ = finished
    uri = default_uri(base / "results")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)  # MLflow's registry is found by it; and it is put back afterwards
    run = json.loads((folder / "mlflow.json").read_text())["trials"]["1"]
    client = MlflowClient(tracking_uri=uri)
    ended = client.get_run(run).info.end_time
    arguments = ["model", "register", "s", "1", "--as", "scenes", "--results", str(base / "results")]
    said = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert said.stdout.strip().splitlines()[-1] == "models:/scenes/1"
    assert client.get_run(run).info.end_time == ended
    assert client.get_model_version("scenes", "1").tags["method"] == record.trials[1].method

    store = open_store(small_store)
    pixels = store.split("val").gather(np.arange(1))[0]
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    table = pd.DataFrame({"text": ["a red circle"], "image": [base64.b64encode(file.getvalue()).decode()]})
    found = mlflow.pyfunc.load_model("models:/scenes/1").predict(table)

    clip, _ = trained_model(read_checkpoint(folder / "trials" / "0001"), "cpu")
    clip.eval()
    with torch.no_grad():
        image = clip.encode_image(torch.from_numpy(pixels[None]))
        tokens = torch.from_numpy(tokenize(["a red circle"], store.meta.context_length).astype(np.int64))
        text = clip.encode_text(tokens)
    np.testing.assert_allclose(found["image_embedding"][0], image[0].numpy(), atol=1e-5)
    np.testing.assert_allclose(found["text_embedding"][0], text[0].numpy(), atol=1e-5)


def test_workers_are_reused(finished):
    base, record, _, _ = finished
    assert len(record.trials) == 4
    assert (base / "workers").read_text() == "2"


def test_finished_sweep_has_nothing_left_to_run(finished, small_store, local_ray):
    base, record, folder, _ = finished
    before = [event for event in read_events(folder)[0] if event["event"] not in ("session", "done")]
    again, _, _ = sweep(base, small_store)
    after = [event for event in read_events(folder)[0] if event["event"] not in ("session", "done")]
    assert after == before
    assert again.trials == record.trials


def test_finished_sweep_is_extended_by_more_candidates(finished, small_store, local_ray):
    base, record, _, _ = finished
    more, _, _ = sweep(base, small_store, trials=5)
    assert len(more.trials) == 5
    assert {number: more.trials[number] for number in record.trials} == record.trials


def test_another_sweep_under_the_same_name_is_refused_with_the_difference(finished, small_store):
    base, _, folder, _ = finished
    before = (folder / "ledger.jsonl").read_bytes()
    with pytest.raises(UserError, match=r"training.epochs: 2 → 3.*another --name"):
        sweep(base, small_store, epochs=3)
    assert (folder / "ledger.jsonl").read_bytes() == before


def test_missing_resources_are_reported_before_anything_is_written(tmp_path, small_store, local_ray):
    with pytest.raises(UserError, match="each trial needs 1 CPU and 64 GPU on one machine; this machine has"):
        sweep(tmp_path, small_store, more="resources: {gpu: 64}\n")
    assert not (tmp_path / "results").exists()


def test_diverging_trial_fails_with_the_reason_and_the_others_continue(tmp_path, small_store, local_ray):
    record, _, text = sweep(tmp_path, small_store, trials=2, more="optimizer: {lr: 1.0e+30, warmup: 0.0}\n")
    assert [trial.state for trial in record.trials.values()] == [State.FAIL] * 2
    assert all(trial.reason.startswith("non-finite: ") for trial in record.trials.values())
    assert all(trial.retries == [] for trial in record.trials.values())
    assert "FAIL" in text


def test_batches_larger_than_the_data_are_refused_before_anything_starts(tmp_path, small_store):
    space, config = write_yaml(tmp_path, small_store)
    config.write_text(config.read_text().replace("batch_size: 64", "batch_size: 500"))
    with pytest.raises(UserError, match="batch_size 500 is more than the 192 training images"):
        prepare(load_space(space), load_sweep_config(config), name="b", results=tmp_path, now=0.0, command="")
    assert not (tmp_path / "b").exists()


def test_evaluation_data_that_are_not_there_are_refused_before_anything_starts(tmp_path, small_store):
    more = f"evaluate: [{{name: cifar10, data: 'cifar10:{tmp_path}/none', tasks: [zeroshot]}}]\n"
    space, config = write_yaml(tmp_path, small_store, more=more)
    with pytest.raises(UserError, match=r"there is no CIFAR-10 at .*none"):
        prepare(load_space(space), load_sweep_config(config), name="b", results=tmp_path, now=0.0, command="")
    assert not (tmp_path / "b").exists()


def test_worker_reports_epochs_and_names_out_of_memory(tmp_path, small_store, monkeypatch):
    config = {"model": {"name": "scenes-tiny"}, "training": {"epochs": 2, "batch_size": 64}}
    trial = {
        "number": 0,
        "config": config,
        "event": {"event": "trial", "trial": 0, "sweep_id": "x", "config": config},
        "checkpoints": str(tmp_path / "c"),
    }
    task = {
        "trials": [trial],
        "data": {"store": str(small_store)},
        "weights": None,
        "workers": 1,
        "cpu": 1,
        "gpu": 0.0,
        "folder": str(tmp_path),
        "place": "test/0",
        "system_metrics": False,
    }
    for name in ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"):
        monkeypatch.setenv(name, "0")  # and back after the test, like the working folder
    monkeypatch.chdir(tmp_path)
    worker = Worker(task)
    (first,) = worker.step()["trials"]
    assert (first["number"], first["epoch"], first["step"]) == (0, 1, 3)
    assert worker.reset_config(task)  # taken up again: the checkpoint's report is said again, then the rest
    assert worker.step()["trials"] == [first]
    assert worker.step()["trials"][0]["epoch"] == 2
    kept = read((tmp_path / "c" / "trial.jsonl").read_bytes())
    assert [event.get("epoch") for event in kept] == [None, 1, 2]
    assert kept[1]["metrics"] == first["metrics"]
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ""  # it asked for no GPU

    worker.reset_config(task | {"data": {"store": "nowhere"}})
    assert "nowhere" in worker.step()["failure"]  # trying again would not help

    started_from = config | {"model": {"name": "scenes-tiny", "pretrained": str(tmp_path / "c")}}
    other = trial | {"config": started_from, "checkpoints": str(tmp_path / "d")}
    worker.reset_config(task | {"trials": [other], "weights": "a"})
    assert "no longer holds the weights that the sweep began with" in worker.step()["failure"]

    worker.reset_config(task | {"system_metrics": True})
    (last,) = worker.step()["trials"]
    used = {name: value for name, value in last["metrics"].items() if name.startswith("system/")}
    assert set(used) == {"system/cpu_percent", "system/memory_mb"}
    assert 100 < used["system/memory_mb"] < 10_000

    def out_of_memory(*args, **kwargs):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB\nmore")
        yield

    monkeypatch.setattr("gaptune.trial.lanes.train", out_of_memory)
    worker.reset_config(task)
    told = worker.step()["failure"]
    assert told.startswith("out of memory on the CPU with batches of 64; set a smaller training.batch_size")
    assert told.endswith("(CUDA out of memory. Tried to allocate 20.00 MiB)")


def test_the_front_alone_is_evaluated_when_asked(tmp_path, small_store, local_ray):
    more = f"evaluate: [{{name: again, data: '{small_store}', tasks: [zeroshot], when: front}}]\n"
    _, folder, text = sweep(tmp_path, small_store, more=more)
    again = load(folder)
    members = {trial.number for candidate in summarize(again).front for trial in candidate.trials}
    scored = {number for number, trial in again.trials.items() if "again/zeroshot/top1" in trial.last}
    assert members == scored < set(again.trials)
    assert f"evaluating {len(members)} trials of the front on again" in text
    for number in members:  # the same data and the same model, by another way
        last = again.trials[number].last
        assert last["again/zeroshot/top1"] == pytest.approx(last["zeroshot/top1"])
    client = MlflowClient(tracking_uri=default_uri(tmp_path / "results"))
    experiment = client.get_experiment_by_name("gaptune")
    runs = client.search_runs([experiment.experiment_id], "metrics.`again/zeroshot/top1` >= 0")
    assert {int(run.data.tags["gaptune.trial"]) for run in runs} == members
    before = [event for event in read_events(folder)[0] if event["event"] == "metrics"]
    sweep(tmp_path, small_store, more=more)
    assert [event for event in read_events(folder)[0] if event["event"] == "metrics"] == before


def test_trial_on_the_front_that_cannot_be_evaluated_is_named_and_retried_by_the_same_command(
    tmp_path, small_store, local_ray
):
    more = f"evaluate: [{{name: again, data: '{small_store}', tasks: [zeroshot], when: front}}]\n"
    more += "resources: {gpu: 0}\n"
    first, folder, _ = sweep(tmp_path, small_store, trials=1)
    shutil.move(folder / "trials", tmp_path / "away")
    plan_yaml = write_yaml(tmp_path, small_store, trials=1, more=more)
    config = load_sweep_config(plan_yaml[1])
    ledger = Ledger(folder)
    said = []
    stage = Orchestrator(load(folder), ledger, _NoAsker(), config, num_candidates=1)
    evaluate_front(stage, config, str(folder / "trials"), said.append, Stop())
    assert "trial 0 could not be evaluated: " in said[-1]
    assert "there is no checkpoint" in said[-1]
    shutil.move(tmp_path / "away", folder / "trials")
    evaluate_front(stage, config, str(folder / "trials"), said.append, Stop())
    ledger.close()
    assert "again/zeroshot/top1" in load(folder).trials[0].last
    assert first.trials[0].reports[0] == load(folder).trials[0].reports[0]


class _NoAsker:
    """A study that nobody asks."""

    def pass_over(self, highest):
        """Takes it."""

    def resume(self, *outcome, **numbered):
        """Takes what is told."""
