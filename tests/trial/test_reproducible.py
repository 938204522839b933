"""What a training's randomness and its checkpoints depend on."""

from dataclasses import replace

import pytest
import torch

from gaptune.config.models import PRESETS
from gaptune.data import Store
from gaptune.errors import UserError
from gaptune.trial import train


@pytest.fixture
def dropout(short, monkeypatch):
    """The configuration of a model that draws random numbers of its own: which patches it looks at."""
    vision = {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 8, "patch_dropout": 0.5}
    text = {"width": 32, "heads": 2, "layers": 1}
    monkeypatch.setitem(PRESETS, "test-dropout", {"embed_dim": 32, "vision_cfg": vision, "text_cfg": text})
    config = short({"training.epochs": 3})
    return config.model_copy(update={"model": config.model.model_copy(update={"name": "test-dropout"})})


def untimed(reports):
    return [{k: v for k, v in report.metrics.items() if not k.startswith("time/")} for report in reports]


def test_model_with_dropout_resumes_as_the_undisturbed_one(dropout, store, tmp_path):
    torch.manual_seed(1)
    through = list(train(dropout, store))
    torch.manual_seed(2)
    before = torch.random.get_rng_state()
    stopped = train(dropout, store, checkpoints=tmp_path)
    next(stopped)
    stopped.close()
    assert untimed(train(dropout, store, checkpoints=tmp_path)) == untimed(through)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_checkpoints_of_other_data_are_refused(short, store, tmp_path):
    next(train(short(), store, checkpoints=tmp_path))
    other = Store(store.path, replace(store.meta, content_hash="0" * 64))
    with pytest.raises(UserError, match="other data"):
        next(train(short(), other, checkpoints=tmp_path))
