"""Gradient checkpointing: less memory, the same gradients."""

import pytest
import torch

from gaptune.config import ModelConfig
from gaptune.config.models import PRESETS
from gaptune.engine.preflight import check_trial
from gaptune.trial import train
from gaptune.trial.build_model import make_model
from gaptune.trial.recompute import checkpoint_gradients


@pytest.fixture
def transformer(monkeypatch):
    """The name of a model whose image tower is a transformer."""
    vision = {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8}
    text = {"width": 32, "heads": 2, "layers": 2}
    monkeypatch.setitem(PRESETS, "test-transformer", {"embed_dim": 32, "vision_cfg": vision, "text_cfg": text})
    return "test-transformer"


def kept_and_gradients(model, images):
    """Bytes that are kept for the gradient, and the gradients."""
    kept = 0

    def pack(tensor):
        nonlocal kept
        kept += tensor.nbytes
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        features = model.embed_images(images)
    forward = kept
    (features**3).sum().backward()
    return forward, [each.grad.clone() for each in model.tower.visual.parameters() if each.grad is not None]


def test_a_transformer_keeps_less_and_has_the_same_gradients(transformer, store):
    models = [make_model(ModelConfig(name=transformer), store.meta) for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    assert checkpoint_gradients(models[1]) == ()
    images = models[0].image_inputs(torch.from_numpy(store.split("train").gather(range(8))))
    (plain, expected), (less, found) = (kept_and_gradients(model, images) for model in models)
    assert less < 0.5 * plain
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs)


def test_training_with_it_is_the_same_training(transformer, store, short):
    def losses(on):
        config = short({"training.epochs": 1})
        training = config.training.model_copy(update={"grad_checkpointing": on})
        model = config.model.model_copy(update={"name": transformer})
        config = config.model_copy(update={"training": training, "model": model})
        return [report.metrics["train/loss"] for report in train(config, store)]

    assert losses(True) == pytest.approx(losses(False), rel=1e-5)


@pytest.mark.parametrize(("name", "part"), [("scenes-tiny", "image tower"), ("RN50", "image tower")])
def test_a_resnet_has_none_and_the_plan_says_so(name, part, store, short):
    config = short()
    training = config.training.model_copy(update={"grad_checkpointing": True})
    model = ModelConfig(name=name, image_size=32 if name == "scenes-tiny" else None)
    data = config.data.model_copy(update={"store": str(store.path)})
    _, sizes = check_trial(config.model_copy(update={"training": training, "model": model, "data": data}))
    assert f"training.grad_checkpointing has no effect on the {part} of {name}" in sizes.remarks
