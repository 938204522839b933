"""Heads on stored features: what they compute and draw, how they learn, and what they are evaluated by."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from gaptune.config import EvaluationConfig, ModelConfig, TrialConfig
from gaptune.data import FeatureMeta, StoreWriter
from gaptune.data.open import open_store
from gaptune.errors import UserError
from gaptune.metrics.table import METRICS
from gaptune.trial import feed, train
from gaptune.trial.build_model import make_model
from gaptune.trial.checkpoint import Checkpoints, read_checkpoint
from gaptune.trial.heads import Heads, unit
from gaptune.trial.loop import trained_model

WIDTHS = FeatureMeta(image=24, text=12)
CLASSES = ("cat", "dog", "bird")
SPLITS = {"train": 96, "val": 32, "probe_train": 60, "probe_test": 30}


def make_store(out, widths=WIDTHS, splits=SPLITS):
    """Features of both modalities that are random views of the same hidden numbers; a label shifts these."""
    random = np.random.default_rng(5)
    views = [random.normal(size=(6, width)) for width in (widths.image, widths.text)]
    means = random.normal(size=(len(CLASSES), 6)) * 2

    def view(hidden, which):
        noise = random.normal(size=(*hidden.shape[:-1], views[which].shape[1]))
        return (hidden @ views[which] + 0.1 * noise).astype(widths.dtype)

    with StoreWriter(out, features=widths) as writer:
        for split, images in splits.items():
            for row in range(images):
                label = row % len(CLASSES) if split.startswith("probe") else None
                hidden = random.normal(size=6) + (0 if label is None else means[label])
                count = 0 if label is not None else 1 + row % 3
                captions = [f"{split} {row} {number}" for number in range(count)]
                texts = view(np.repeat(hidden[None], count, axis=0), 1)
                writer.add(split, view(hidden, 0), captions, texts, id=f"{split}-{row}", label=label)
        prompts = view(np.repeat(means[:, None], 2, axis=1), 1)
        return writer.finish(name="views", source={}, classes=CLASSES, prompt_features=prompts)


@pytest.fixture(scope="module")
def views(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("views") / "store")


def config(store, model=None, **changes):
    groups = {
        "model": {"name": "heads", "width": 16} | (model or {}),
        "data": {"store": str(store.path)},
        "training": {"epochs": 4, "batch_size": 32},
        "optimizer": {"lr": 1e-2},
        "device": "cpu",
    }
    return TrialConfig.model_validate(groups | changes)


def untimed(reports):
    """What reports say, without wall times."""
    return [
        (report.epoch, report.step, {k: v for k, v in report.metrics.items() if not k.startswith("time/")})
        for report in reports
    ]


def weights(folder):
    return read_checkpoint(folder)["model"]


# --- what they compute ---


def test_linear_head_is_one_layer_on_features_of_length_root_d(views):
    model = make_model(ModelConfig(name="heads"), views.meta)
    images = torch.from_numpy(views.split("val").gather(np.arange(5)))
    head = model.tower.image
    inputs = F.normalize(images.float(), dim=1) * 24**0.5
    expected = F.normalize(inputs @ head.weight.T + head.bias, dim=1)
    torch.testing.assert_close(model.encode_image(images), expected)
    assert model.encode_image(images).shape == (5, 512)


def test_features_are_taken_as_they_are_without_normalize(views):
    model = make_model(ModelConfig(name="heads", normalize=False, bias=False), views.meta)
    texts = torch.from_numpy(views.split("val").texts.copy())
    expected = F.normalize(texts.float() @ model.tower.text.weight.T, dim=1)
    torch.testing.assert_close(model.encode_text(texts), expected)


def test_mlp_has_a_hidden_gelu_layer(views):
    model = make_model(ModelConfig(name="heads", head="mlp", width=20), views.meta)
    texts = torch.from_numpy(views.split("val").texts.copy())
    head = model.tower.text
    hidden = F.gelu(head.hidden(model.text_inputs(texts)))
    assert hidden.shape[1] == 20
    torch.testing.assert_close(model.encode_text(texts), F.normalize(head.output(hidden), dim=1))


def test_residual_head_starts_as_its_linear_layer_and_learns_more(views, tmp_path):
    model = make_model(ModelConfig(name="heads", head="residual", width=20), views.meta)
    images = torch.from_numpy(views.split("val").gather(np.arange(5)))
    linear = F.normalize(model.tower.image.linear(model.image_inputs(images)), dim=1)
    torch.testing.assert_close(model.encode_image(images), linear)
    list(train(config(views, {"head": "residual"}), views, checkpoints=tmp_path))
    assert float(weights(tmp_path)["image.mlp.output.weight"].norm()) > 0.1


@pytest.mark.parametrize("head", ["linear", "mlp", "residual"])
def test_head_without_bias_has_only_matrices(head, views):
    model = make_model(ModelConfig(name="heads", head=head, bias=False), views.meta)
    assert all(parameter.ndim == 2 for parameter in model.parameters())


# --- dropout ---


def inputs(model, images, number, seed=0):
    """Images as the head takes them in a step."""
    return model.image_inputs(images, model.draw(len(images), TrialConfig().augment, seed, number).images)


def test_dropout_leaves_out_its_fraction_and_keeps_the_mean(views):
    model = make_model(ModelConfig(name="heads", dropout=0.25, normalize=False), views.meta)
    dropped = inputs(model, torch.ones(2000, 24), 0)
    assert float((dropped == 0).float().mean()) == pytest.approx(0.25, abs=0.01)
    assert sorted(set(dropped.flatten().tolist())) == pytest.approx([0, 4 / 3])
    torch.testing.assert_close(dropped.mean(0), torch.ones(24), atol=0.06, rtol=0)


def test_dropout_is_determined_by_seed_step_and_modality(views):
    model = make_model(ModelConfig(name="heads"), views.meta)
    images = torch.from_numpy(views.split("train").gather(np.arange(8)))
    first, again = (inputs(model, images, 3) for _ in range(2))
    others = [inputs(model, images, 4), inputs(model, images, 3, seed=1)]
    plain = model.image_inputs(images)
    assert torch.equal(first, again)
    assert not any(torch.equal(first, other) for other in (*others, plain))


def test_heads_without_dropout_draw_nothing(views):
    model = make_model(ModelConfig(name="heads", dropout=0.0), views.meta)
    images = torch.from_numpy(views.split("train").gather(np.arange(8)))
    assert torch.equal(inputs(model, images, 3), model.image_inputs(images))


# --- training ---


GOLDEN = [3.4294, 2.0285, 1.4593, 1.4251]
"""Losses of a fixed training. A change that is meant to alter them records them anew (`-k golden` prints both)."""


def test_golden_curve(views):
    losses = [report.metrics["train/loss"] for report in train(config(views), views)]
    assert losses == pytest.approx(GOLDEN, rel=1e-2)


def test_training_on_features_reports_every_metric_and_learns(views):
    reports = list(train(config(views, training={"epochs": 12, "batch_size": 32}), views))
    assert {*METRICS} == reports[-1].metrics.keys()
    last = reports[-1].metrics
    assert last["retrieval/mean_r1"] > 0.3
    assert last["zeroshot/top1"] > 0.8
    assert last["probe/top1"] > 0.8


def test_resumed_training_ends_with_the_same_weights_to_the_bit(views, tmp_path):
    asked = config(views, training={"epochs": 5, "batch_size": 32, "evaluate_every": 2})
    through = list(train(asked, views, checkpoints=tmp_path / "through"))
    stopped = train(asked, views, checkpoints=tmp_path / "stopped")
    next(stopped)
    stopped.close()
    resumed = list(train(asked, views, checkpoints=tmp_path / "stopped"))
    assert untimed(resumed) == untimed(through)
    for name, weight in weights(tmp_path / "through").items():
        assert torch.equal(weight, weights(tmp_path / "stopped")[name])


def test_features_are_normalized_once_for_all_trials_on_an_open_store(views, monkeypatch):
    store = open_store(views.path)
    made = []
    monkeypatch.setattr(feed, "unit", lambda *given, **options: made.append(1) or unit(*given, **options))
    first, again, other = (
        [report.metrics["train/loss"] for report in train(config(store, model={"dropout": dropout}), store)]
        for dropout in (0.2, 0.2, 0.4)
    )
    assert len(made) == 2  # images and texts
    assert first == again != other
    raw = {"dropout": 0.2, "normalize": False}
    assert [report.metrics["train/loss"] for report in train(config(store, model=raw), store)] != first


def test_features_on_a_card_keep_their_type(views):
    split = views.split("train")
    copied = feed._copied_images(split, torch.device("cpu"))
    assert np.array_equal(copied.numpy(), split.gather(np.arange(len(split))))
    assert copied.is_floating_point()


def test_features_that_are_read_in_each_step_train_as_those_in_memory(views, monkeypatch):
    kept = list(train(config(views), views))
    monkeypatch.setattr(feed, "_UNITS", 0)
    read = list(train(config(views), views))
    for one, other in zip(kept, read, strict=True):
        assert one.metrics["train/loss"] == pytest.approx(other.metrics["train/loss"], rel=1e-4)


# --- evaluation ---


def evaluated(path, tasks):
    return (EvaluationConfig(name="more", data=str(path), tasks=tasks),)


def test_other_features_are_evaluated_by_zero_shot_probe_and_knn(views, tmp_path):
    labeled = make_store(tmp_path / "labeled", FeatureMeta(24, 12, "float32"), {"probe_train": 60, "probe_test": 30})
    asked = config(views, evaluate=evaluated(labeled.path, ("zeroshot", "probe", "knn")))
    metrics = list(train(asked, views))[-1].metrics
    for name in ("zeroshot", "probe", "knn"):
        assert metrics[f"more/{name}/top1"] > 0.8


def test_checkpoint_of_heads_is_evaluated_on_features_of_its_widths_only(views, small_store, tmp_path, gaptune):
    list(train(config(views), views, checkpoints=tmp_path / "trained"))
    code, out, _ = gaptune("eval", tmp_path / "trained", "--data", views.path, "--json")
    assert code == 0
    assert json.loads(out)["metrics"]["zeroshot/top1"]["value"] > 0.5
    other = make_store(tmp_path / "other", FeatureMeta(24, 10)).path
    for place, told in ((other, "24 numbers per image and 10 per caption"), (small_store, "it has images")):
        code, _, errors = gaptune("eval", tmp_path / "trained", "--data", place)
        assert code == 2
        assert told in errors
        assert len(errors.strip().splitlines()) == 1


# --- other stores, other versions ---


def test_images_for_heads_and_features_for_towers_are_refused(views, small_store):
    with pytest.raises(UserError, match=r"trains on features, and .* is a store of images"):
        make_model(ModelConfig(name="heads"), open_store(small_store).meta)
    with pytest.raises(UserError, match="store of features, on which only model heads trains"):
        make_model(ModelConfig(), views.meta)


def linear_heads(state):
    """A state as the version with the model ``linear-heads`` wrote it."""
    asked = json.loads(state["config"])
    asked["model"] = {"name": "linear-heads", "image_size": None, "vocabulary": "auto", "pretrained": None}
    asked["model"]["freeze"] = None
    for name in ("evaluate_every", "micro_batch", "grad_checkpointing", "deterministic"):
        del asked["training"][name]
    return state | {"config": json.dumps(asked, sort_keys=True), "format": 3}


OLD = {"head": "linear", "width": 128, "dropout": 0.0, "bias": False, "normalize": False}


def test_checkpoint_of_linear_heads_opens_and_resumes(views, tmp_path):
    asked = config(views, OLD)
    through = list(train(asked, views, checkpoints=tmp_path / "new"))
    state = torch.load(tmp_path / "new" / "epoch-0003.pt", weights_only=True)
    state["optimizer"] = torch.load(tmp_path / "new" / "epoch-0003.optimizer.pt", weights_only=True)["optimizer"]
    assert {name: tuple(weight.shape) for name, weight in state["model"].items()} == {
        "image.weight": (128, 24),
        "text.weight": (128, 12),
    }
    Checkpoints(tmp_path / "old").save(3, linear_heads(state))
    model, _ = trained_model(read_checkpoint(tmp_path / "old"), "cpu")
    assert isinstance(model, Heads)
    images = torch.from_numpy(views.split("val").gather(np.arange(3)))
    expected = F.normalize(images.float() @ state["model"]["image.weight"].T, dim=1)
    torch.testing.assert_close(model.encode_image(images), expected)
    assert untimed(train(asked, views, checkpoints=tmp_path / "old")) == untimed(through[-2:])
