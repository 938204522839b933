"""Checkpoints of other versions: older ones are read as they were trained, newer ones are refused in one line."""

import copy
import json

import numpy as np
import pytest
import torch

from gaptune.config import ModelConfig
from gaptune.errors import UserError
from gaptune.trial import train
from gaptune.trial.build_model import make_model
from gaptune.trial.checkpoint import Checkpoints, read_checkpoint
from gaptune.trial.loop import trained_model


@pytest.fixture(scope="module")
def undisturbed(store, short, tmp_path_factory):
    """The state after a training of one epoch."""
    folder = tmp_path_factory.mktemp("undisturbed")
    list(train(short({"training.epochs": 1}), store, checkpoints=folder))
    return read_checkpoint(folder)


def test_a_checkpoint_holds_what_belongs_to_its_weights(undisturbed):
    assert undisturbed["format"] == 3
    held = undisturbed["architecture"]
    assert held["preprocess_cfg"]["mean"] == pytest.approx([0.48145466, 0.4578275, 0.40821073])
    assert held["model_cfg"]["vision_cfg"]["image_size"] == 32
    assert held["model_cfg"]["text_cfg"]["context_length"] == 16


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"format": 4}, r"was written by a newer gaptune \(format 4; this one reads up to 3\)"),
        ({"format": "4b"}, r"was written by a newer gaptune \(format 4b"),
        ({"format": 99, "model": None}, r"newer gaptune \(format 99"),
        ({"version": 99}, "this one does not know version"),
    ],
)
def test_a_newer_checkpoint_is_refused_and_left_as_it_is(changes, told, store, short, undisturbed, tmp_path, gaptune):
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
def test_what_a_checkpoint_holds_too_much_or_too_little_is_one_line(
    change, told, store, undisturbed, tmp_path, gaptune
):
    state = copy.deepcopy(undisturbed)
    change(state)
    Checkpoints(tmp_path).save(1, state)
    with pytest.raises(UserError, match=told):
        trained_model(read_checkpoint(tmp_path), "cpu")
    code, _, errors = gaptune("eval", tmp_path, "--data", store.path)
    assert (code, len(errors.strip().splitlines())) == (2, 1)


def test_a_checkpoint_before_format_2_is_read_as_it_was_trained(store, undisturbed, tmp_path):
    old = {name: value for name, value in undisturbed.items() if name not in ("architecture", "format")}
    models = [trained_model(state, "cpu")[0].eval() for state in (old, undisturbed)]
    images = torch.from_numpy(store.split("val").gather(np.arange(3)))
    with torch.no_grad():
        assert torch.equal(*(model.encode_image(images) for model in models))
