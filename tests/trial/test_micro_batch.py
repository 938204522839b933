"""Gradients by cached features are those of the whole batch."""

import numpy as np
import pytest
import torch
from torch import nn

from gaptune.config import ModelConfig
from gaptune.config.models import PRESETS
from gaptune.trial import train
from gaptune.trial.build_model import make_model
from gaptune.trial.feed import Batch
from gaptune.trial.micro_batch import backward_in_chunks
from gaptune.trial.step import contrast
from gaptune.trial.streams import global_seed

PAIRS = 24


@pytest.fixture
def transformer(monkeypatch):
    """The name of a model without batch norm, which draws the patches that it looks at."""
    vision = {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8, "patch_dropout": 0.5}
    text = {"width": 32, "heads": 2, "layers": 1}
    monkeypatch.setitem(PRESETS, "test-transformer", {"embed_dim": 32, "vision_cfg": vision, "text_cfg": text})
    return "test-transformer"


def batch_of(model, store):
    split = store.split("train")
    rows = np.arange(PAIRS)
    images = model.image_inputs(torch.from_numpy(split.gather(rows)))
    texts = model.text_inputs(torch.from_numpy(split.texts[split.offsets[rows]].copy()))
    return Batch(images, texts)


def swapped_loss(x, y, nu):
    return contrast(x, y, nu.exp(), torch.rand(x.shape, generator=torch.Generator().manual_seed(1)))


def embedding(model):
    return lambda images, texts: (model.embed_images(images), model.embed_texts(texts))


def gradients(model, nu):
    found = {name: each.grad.clone() for name, each in model.named_parameters() if each.grad is not None}
    model.zero_grad()
    found["nu"], nu.grad = nu.grad.clone(), None
    return found


def in_chunks(model, batch, size, nu):
    """Loss and gradients by cached features."""
    with global_seed(7, torch.device("cpu")):
        loss = backward_in_chunks(embedding(model), lambda x, y: swapped_loss(x, y, nu), model, batch, size)
    return loss, gradients(model, nu)


def at_once(model, batch, size, nu):
    """The same by one graph; what is drawn is drawn chunk by chunk."""
    embed = embedding(model)
    with global_seed(7, torch.device("cpu")):
        parts = [embed(*chunk) for chunk in zip(batch.images.split(size), batch.texts.split(size), strict=True)]
        loss = swapped_loss(*(torch.cat(each) for each in zip(*parts, strict=True)), nu)
        loss.backward()
    return loss.detach(), gradients(model, nu)


def assert_same(found, expected):
    torch.testing.assert_close(found[0], expected[0])
    assert found[1].keys() == expected[1].keys()
    for name, gradient in expected[1].items():
        scale = float(gradient.abs().max())
        torch.testing.assert_close(found[1][name], gradient, atol=1e-6 * max(scale, 1.0), rtol=1e-5, msg=name)


@pytest.mark.parametrize("size", [1, 5, 8, 23])
def test_gradients_are_those_of_the_whole_batch_without_random_draws(size, transformer, store):
    model = make_model(ModelConfig(name=transformer), store.meta).eval()  # no patch is left out
    batch, nu = batch_of(model, store), nn.Parameter(torch.tensor(2.0))
    assert_same(in_chunks(model, batch, size, nu), at_once(model, batch, PAIRS, nu))


@pytest.mark.parametrize("size", [5, 8])
def test_random_draws_are_the_same_when_a_chunk_is_embedded_again(size, transformer, store):
    model = make_model(ModelConfig(name=transformer), store.meta).train()
    batch, nu = batch_of(model, store), nn.Parameter(torch.tensor(2.0))
    assert_same(in_chunks(model, batch, size, nu), at_once(model, batch, size, nu))


def test_batch_norm_uses_and_remembers_the_statistics_of_each_chunk_once(store):
    models = [make_model(ModelConfig(), store.meta).train() for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    nu = nn.Parameter(torch.tensor(2.0))
    results = [
        way(model, batch_of(model, store), 8, nu) for way, model in zip((in_chunks, at_once), models, strict=True)
    ]
    torch.testing.assert_close(results[0][0], results[1][0])
    for name, one in models[0].tower.state_dict().items():
        torch.testing.assert_close(one, models[1].tower.state_dict()[name], msg=name)
    norm = next(each for each in models[0].modules() if isinstance(each, nn.BatchNorm2d))
    assert norm.track_running_stats
    assert int(norm.num_batches_tracked) == PAIRS / 8


@pytest.mark.parametrize("frozen", ["image", "text"])
def test_frozen_tower_gets_no_gradient(frozen, transformer, store):
    model = make_model(ModelConfig(name=transformer, freeze=frozen), store.meta).eval()
    batch, nu = batch_of(model, store), nn.Parameter(torch.tensor(2.0))
    found = in_chunks(model, batch, 8, nu)
    assert_same(found, at_once(model, batch, PAIRS, nu))
    assert all(name.startswith("tower.visual.") == (frozen == "text") for name in found[1] if name != "nu")


def test_training_with_micro_batches_is_the_same_training(transformer, store, short):
    def losses(micro):
        config = short({"swap.kind": "soft", "swap.probability": 0.5, "augment.crop_min": 0.5, "training.epochs": 1})
        training = config.training.model_copy(update={"micro_batch": micro})
        vision = PRESETS[transformer]["vision_cfg"]
        vision["patch_dropout"] = 0.0
        model = config.model.model_copy(update={"name": transformer})
        (report,) = train(config.model_copy(update={"training": training, "model": model}), store)
        return report.metrics["train/loss"], report.metrics["uniformity/w2"]

    assert losses(7) == pytest.approx(losses(None), rel=1e-4)


def test_activations_of_one_chunk_are_kept_at_a_time(transformer, store):
    model = make_model(ModelConfig(name=transformer), store.meta).train()
    batch, nu = batch_of(model, store), nn.Parameter(torch.tensor(2.0))

    def most_kept(way, size):
        kept, most = 0, 0

        def pack(tensor):
            nonlocal kept, most
            kept += tensor.nbytes
            most = max(most, kept)
            return tensor

        def unpack(tensor):
            nonlocal kept
            kept -= tensor.nbytes
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
            way(model, batch, size, nu)
        return most

    assert most_kept(in_chunks, 3) < 0.35 * most_kept(at_once, PAIRS)
