"""Compiled towers."""

import os
import subprocess

import pytest
import torch

from gaptune.config import ModelConfig
from gaptune.config.models import PRESETS
from gaptune.errors import UserError
from gaptune.trial import compiling, train
from gaptune.trial.build_model import make_model
from gaptune.trial.compiling import compile_towers

FULL = os.environ.get("GAPTUNE_SOAK") == "full"


@pytest.fixture
def small(monkeypatch):
    """A model of few operations, each of which is a kernel to compile: two transformers of one layer."""
    vision = {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 8}
    text = {"width": 32, "heads": 2, "layers": 1}
    monkeypatch.setitem(PRESETS, "small", {"embed_dim": 32, "vision_cfg": vision, "text_cfg": text})
    return {"model.name": "small"}


@pytest.fixture
def traced(monkeypatch):
    """Compiles without a C++ compiler, which takes minutes: the graphs are traced, and run as they are."""
    real = compile_towers
    monkeypatch.setattr("gaptune.trial.loop.compile_towers", lambda model: real(model, backend="aot_eager"))


@pytest.mark.whole
def test_compiled_towers_have_the_same_embeddings_gradients_and_names(store):
    models = [make_model(ModelConfig(), store.meta).eval() for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    names = list(models[1].tower.state_dict())
    compile_towers(models[1], backend="aot_eager")
    split, found = store.split("train"), []
    for model in models:
        images = model.encode_image(torch.from_numpy(split.gather(range(6))))
        texts = model.encode_text(torch.from_numpy(split.texts[:6].copy()))
        (images * texts).sum().backward()
        found.append((images.detach(), texts.detach(), model.tower.visual.conv1.weight.grad))
    for mine, theirs in zip(*found, strict=True):
        torch.testing.assert_close(mine, theirs)
    assert list(models[1].tower.state_dict()) == names


@pytest.mark.whole
def test_compiled_training_is_the_same_training_and_resumes(traced, small, store, short, tmp_path):
    def losses(compiled, folder=None):
        config = short(small)
        training = config.training.model_copy(update={"compile": compiled})
        return [
            report.metrics["train/loss"]
            for report in train(config.model_copy(update={"training": training}), store, checkpoints=folder)
        ]

    plain = losses(False)
    assert losses(True, tmp_path) == pytest.approx(plain, rel=1e-4)
    assert losses(True, tmp_path) == pytest.approx(plain[-1:], rel=1e-4)  # from its last checkpoint


def test_machine_on_which_torch_cannot_compile_is_refused_in_one_line(monkeypatch, store, short):
    def broken(function, backend):
        raise RuntimeError("Failed to find a working C++ compiler\nmore of it")

    monkeypatch.setattr(compiling.torch, "compile", broken)
    config = short()
    training = config.training.model_copy(update={"compile": True})
    with pytest.raises(UserError, match=r"^training\.compile: torch cannot compile here: Failed to find [^\n]+$"):
        next(train(config.model_copy(update={"training": training}), store))


@pytest.mark.soak
@pytest.mark.parametrize("full", [False, pytest.param(True, marks=pytest.mark.skipif(not FULL, reason="a minute"))])
def test_a_tower_is_compiled_for_real(full, small, store):
    """A small text tower; with GAPTUNE_SOAK=full the image tower of a preset, too."""
    if subprocess.run(["c++", "--version"], capture_output=True).returncode:
        pytest.skip("there is no C++ compiler on this machine")
    given, split = ModelConfig() if full else ModelConfig(name=small["model.name"]), store.split("train")
    models = [make_model(given, store.meta).train() for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    compile_towers(models[1])
    inputs = torch.from_numpy(split.gather(range(16)) if full else split.texts[:16].copy())
    found = [(model.encode_image if full else model.encode_text)(inputs) for model in models]
    torch.testing.assert_close(*found, atol=1e-5, rtol=1e-4)
