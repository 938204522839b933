"""What MLflow should hold of a sweep; names that it would refuse never stop a sweep."""

import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow import MlflowClient
from mlflow.utils.validation import _validate_metric_name, _validate_param_name
from support import Stage

from gaptune.tracking import Mirror, default_uri
from gaptune.tracking.translate import safe_names, sweep_tags, trial_params, trial_points, trial_tags
from gaptune.tracking.write import Tables

HOSTILE = [
    "a b",
    "Größe/Übung",
    "a,b;c#d%",
    "../../up",
    "/absolute",
    "double//slash",
    "ends/",
    ".",
    "",
    "quote`'\"",
    "new\nline",
    "x" * 400,
    "x" * 399 + "y",
    "acc/top1",
    "Acc/Top1",
    "emoji 🙂",
    "\ud800",
]


@given(st.lists(st.text(max_size=300)))
def test_safe_names_are_valid_and_differ_whatever_the_names(names):
    safe = safe_names(names)
    assert set(safe) == set(names)
    assert len({name.casefold() for name in safe.values()}) == len(safe)
    for name in safe.values():
        _validate_metric_name(name)
        _validate_param_name(name)
        assert 0 < len(name) <= 250


@given(st.lists(st.text(max_size=20), unique=True), st.lists(st.text(max_size=20)))
def test_safe_name_stays_when_further_names_come(names, further):
    before, after = safe_names(names), safe_names([*names, *further])
    assert {name: after[name] for name in names} == before


def test_gaptunes_own_names_stay_as_they_are(tmp_path):
    stage = Stage(tmp_path / "s")
    trial = stage.orchestrator.next_trial()
    stage.finish(trial.number, more={"cifar10/zeroshot/top1": 0.5, "train/swapped_fraction": 0.1})
    names = {name for report in trial.reports for name in report.metrics}
    assert {point.metric for point in trial_points(trial)} == names
    assert [(point.epoch, point.value) for point in trial_points(trial) if point.metric == "geometry/gap"] == [
        (1, 1.0),
        (2, 1.0),
    ]
    assert "temperature.tau_start" in trial_params(trial)
    assert trial_tags(stage.record, trial, "p")["mlflow.parentRunId"] == "p"
    assert sweep_tags(stage.record.header)["sweep"] == "s"


def test_values_are_cut_and_encoded_as_mlflow_takes_them(tmp_path):
    stage = Stage(tmp_path / "s")
    trial = stage.orchestrator.next_trial()
    trial.reason, trial.params = "r" * 9000, {"model.name": "m" * 7000}
    assert len(trial_tags(stage.record, trial, "p")["reason"]) == 8000
    assert len(trial_params(trial)["model.name"]) == 6000
    trial.reason = "\ud800\0"
    assert trial_tags(stage.record, trial, "p")["reason"] == r"\ud800\0"


@pytest.mark.parametrize("tables", [True, False], ids=["tables", "requests"])
def test_names_that_mlflow_refuses_do_not_stop_a_sweep(tmp_path, empty_store, monkeypatch, tables):
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    monkeypatch.setattr(Tables, "fits", staticmethod(lambda path: tables))
    stage = Stage(tmp_path / "s")
    trial = stage.orchestrator.next_trial()
    metrics = {name: float(index) for index, name in enumerate(HOSTILE) if name.isprintable()}
    stage.finish(trial.number, more=metrics)
    trial.params.update({name: index for index, name in enumerate(HOSTILE)})
    trial.method, trial.node = "hostile\n`method`", "node\x00"
    mirror = Mirror(None, tmp_path)
    mirror.write(stage.record)
    assert mirror.write(stage.record) == []
    client = MlflowClient(tracking_uri=default_uri(tmp_path))
    run = client.get_run(mirror.runs()["trials"][0])
    written = {**metrics, "retrieval/mean_r1": 0.5, "geometry/gap": 1.0}
    assert sorted(run.data.metrics.values()) == sorted(written.values())
    assert len(run.data.params) == len(trial.params)
    assert run.data.metrics["acc/top1"] == float(HOSTILE.index("acc/top1"))
    assert run.info.status == "FINISHED"
