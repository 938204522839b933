"""Checkpoints of other versions: older ones are read as they were trained, newer ones are refused in one line."""

import copy
import json

import numpy as np
import pytest
import torch

from gaptune.config import HEAD_DEFAULTS, EvaluationConfig, ModelConfig
from gaptune.errors import UserError
from gaptune.text.renamed import METRICS, TASK_METRICS
from gaptune.trial import train
from gaptune.trial.build_model import make_model
from gaptune.trial.checkpoint import Checkpoints, _write, read_checkpoint
from gaptune.trial.loop import trained_model


@pytest.fixture(scope="module")
def undisturbed(store, short, tmp_path_factory):
    """The state after a training of one epoch."""
    folder = tmp_path_factory.mktemp("undisturbed")
    list(train(short({"training.epochs": 1}), store, checkpoints=folder))
    return read_checkpoint(folder)


def test_checkpoint_holds_what_belongs_to_its_weights(undisturbed):
    assert undisturbed["format"] == 5
    held = undisturbed["architecture"]
    assert held["preprocess_cfg"]["mean"] == pytest.approx([0.48145466, 0.4578275, 0.40821073])
    assert held["model_cfg"]["vision_cfg"]["image_size"] == 32
    assert held["model_cfg"]["text_cfg"]["context_length"] == 16


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"format": 6}, r"was written by a newer gaptune \(format 6; this one reads up to 5\)"),
        ({"format": "5b"}, r"was written by a newer gaptune \(format 5b"),
        ({"format": 99, "model": None}, r"newer gaptune \(format 99"),
        ({"version": 99}, "this one does not know version"),
    ],
)
def test_newer_checkpoint_is_refused_and_left_as_it_is(changes, told, store, short, undisturbed, tmp_path, gaptune):
    Checkpoints(tmp_path).save(1, undisturbed | changes)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    for ask in (
        lambda: read_checkpoint(tmp_path),
        lambda: next(train(short({"training.epochs": 1}), store, checkpoints=tmp_path)),
        lambda: make_model(ModelConfig(pretrained=str(tmp_path)), store.meta),
    ):
        with pytest.raises(UserError, match=told):
            ask()
    code, _, errors = gaptune("eval", tmp_path, "--data", store.path)
    assert code == 2
    assert len(errors.strip().splitlines()) == 1
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def in_config(state, **more):
    state["config"] = json.dumps(json.loads(state["config"]) | more)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda state: state["model"].update({"visual.new": torch.zeros(3)}), 'Unexpected key.*"visual.new"'),
        (lambda state: state["model"].pop("text_projection"), 'Missing key.*"text_projection"'),
        (lambda state: in_config(state, version=99), "does not know version"),
        (lambda state: in_config(state, model={"name": "scenes-tiny", "depth": 3}), r"does not know model\.depth"),
        (lambda state: state["architecture"]["preprocess_cfg"].update(mean=[1]), "the mean of its preprocess_cfg"),
        (lambda state: state["data"].update(colors=3), "colors"),
    ],
)
def test_missing_or_unknown_key_of_a_checkpoint_is_reported_in_one_line(
    change, told, store, undisturbed, tmp_path, gaptune
):
    state = copy.deepcopy(undisturbed)
    change(state)
    Checkpoints(tmp_path).save(1, state)
    with pytest.raises(UserError, match=told):
        trained_model(read_checkpoint(tmp_path), "cpu")
    code, _, errors = gaptune("eval", tmp_path, "--data", store.path)
    assert (code, len(errors.strip().splitlines())) == (2, 1)


def as_of(state, number):
    """A state with the names, fields, and number of an earlier format; 0.1.0 and its predecessor wrote 2 and 1."""
    config = json.loads(state["config"])
    for name in ("micro_batch", "grad_checkpointing", "deterministic"):
        del config["training"][name]
    if number == 4:
        return {**state, "config": json.dumps(config, sort_keys=True), "format": 4}
    del config["training"]["evaluate_every"]
    for name in HEAD_DEFAULTS:
        del config["model"][name]
    if number == 3:
        return {**state, "config": json.dumps(config, sort_keys=True), "format": 3}
    temperature = config["temperature"]
    temperature["share"] = temperature.pop("schedule_fraction")
    temperature["schedule"] = {"learned": "learnt"}.get(temperature["schedule"], temperature["schedule"])
    old_names = {new: old for old, new in METRICS.items()} | {
        f"own/{new}": f"own/{old}" for old, new in TASK_METRICS.items()
    }
    metrics = {old_names.get(name, name): value for name, value in state["report"]["metrics"].items()}
    old = {
        **state,
        "config": json.dumps(config, sort_keys=True),
        "data": state["data"] | {"features": 0},
        "report": state["report"] | {"metrics": metrics},
    }
    if number == 1:
        return {name: value for name, value in old.items() if name not in ("architecture", "format")}
    return old | {"format": number}


@pytest.fixture(scope="module")
def whole(store, short, tmp_path_factory):
    """The configuration of a training with an evaluation, its reports, and the folder of its checkpoints."""
    evaluation = EvaluationConfig(name="own", data=str(store.path), tasks=("zeroshot",))
    config = short().model_copy(update={"evaluate": (evaluation,)})
    folder = tmp_path_factory.mktemp("whole")
    return config, list(train(config, store, checkpoints=folder)), folder


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_training_resumes_from_an_earlier_format_to_the_bit(number, store, whole, tmp_path):
    config, reports, folder = whole
    first = torch.load(folder / "epoch-0001.pt", weights_only=True)
    optimizer = torch.load(folder / "epoch-0001.optimizer.pt", weights_only=True)
    old = as_of(first, number) | {"optimizer": optimizer["optimizer"]}
    if number == 1:  # one file with both
        _write(tmp_path / "epoch-0001.pt", old)
    else:
        Checkpoints(tmp_path).save(1, old)
    repeated, last = train(config, store, checkpoints=tmp_path)
    assert repeated.metrics == reports[0].metrics
    assert {name: value for name, value in last.metrics.items() if not name.startswith("time/")} == {
        name: value for name, value in reports[1].metrics.items() if not name.startswith("time/")
    }
    resumed, undisturbed = read_checkpoint(tmp_path), read_checkpoint(folder)
    assert resumed["format"] == 5
    assert all(torch.equal(weight, resumed["model"][name]) for name, weight in undisturbed["model"].items())


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_model_of_an_earlier_format_gives_the_same_features(number, store, undisturbed):
    states = (as_of(undisturbed, number), undisturbed)
    models = [trained_model(state, "cpu")[0].eval() for state in states]
    images = torch.from_numpy(store.split("val").gather(np.arange(3)))
    with torch.no_grad():
        assert torch.equal(*(model.encode_image(images) for model in models))
