"""Trainings that take their steps as one are what each would be alone."""

import itertools

import numpy as np
import pytest
import torch

from gaptune.config import ModelConfig, TrialConfig, with_params
from gaptune.config.models import PRESETS
from gaptune.data import FeatureMeta, StoreWriter
from gaptune.data.tokens import tokenize
from gaptune.errors import UserError
from gaptune.trial import NonFinite, lanes, train
from gaptune.trial.checkpoint import Checkpoints
from gaptune.trial.lanes import lanes_key, train_lanes, why_not
from gaptune.trial.loop import Training
from gaptune.trial.model import ClipModel
from gaptune.trial.together import Lane, Together

VISION = {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8, "patch_size": None}
TEXT = {"width": 32, "heads": 2, "layers": 1}

LINEAR = {"temperature.schedule": "linear", "temperature.tau_start": 0.02, "temperature.tau_end": 0.08}
SOFTPLUS = {"temperature.parameterization": "softplus", "temperature.lr": 0.05, "temperature.tau_max": 0.07}
SCALED = {"temperature.parameterization": "exp_scaled", "temperature.lr_multiplier": 0.1, "optimizer.weight_decay": 0.5}
HARD = {"swap.kind": "hard", "swap.probability": 1.0, "optimizer.lr": 1e-3}
SOFT = {"swap.kind": "soft", "swap.probability": 0.5, "swap.renormalize": True, "seed": 1}
ABSURD = {"optimizer.lr": 1e38}


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    """A store of features of both modalities, 60 pairs, without labels."""
    random = np.random.default_rng(5)
    mixing = random.normal(size=(2, 6, 12))
    with StoreWriter(tmp_path_factory.mktemp("data") / "views", features=FeatureMeta(image=12, text=12)) as writer:
        for split, number in (("train", 40), ("val", 20)):
            for row, hidden in enumerate(random.normal(size=(number, 6))):
                image, text = (hidden @ each + 0.1 * random.normal(size=12) for each in mixing.astype(np.float32))
                writer.add(split, image.astype("f4"), [f"{split} {row}"], text[None].astype("f4"), id=f"{split}-{row}")
        return writer.finish(name="views", source={})


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """A store of 32 images with a caption each, of 2 to 12 words, without labels."""
    random = np.random.default_rng(6)
    with StoreWriter(tmp_path_factory.mktemp("data") / "pairs", 32, 16) as writer:
        for split, number in (("train", 24), ("val", 8)):
            for row in range(number):
                text = " ".join(random.choice(["red", "blue", "square", "circle"], random.integers(2, 13)))
                image = random.integers(0, 256, (32, 32, 3), dtype=np.uint8)
                writer.add(split, image, [text], tokenize([text], 16), id=f"{split}-{row}")
        return writer.finish(name="pairs", source={})


BASE = {"training.epochs": 2, "training.batch_size": 8, "optimizer.lr": 2e-3, "device": "cpu"}


def heads(params=None):
    """The configuration of heads, 3 epochs of 4 steps, with some parameters set."""
    own = {"training.epochs": 3, "training.batch_size": 10, "optimizer.clip_norm": 0.3}
    config = with_params(TrialConfig(), BASE | own | (params or {}))
    return config.model_copy(update={"model": ModelConfig(name="heads", width=8, head="mlp")})


@pytest.fixture
def tower(monkeypatch):
    """Makes the configuration of a small model with batch norm and attention, 2 epochs of 3 steps."""
    monkeypatch.setitem(PRESETS, "test-lanes", {"embed_dim": 16, "vision_cfg": VISION, "text_cfg": TEXT})

    def make(params=None):
        config = with_params(TrialConfig(), BASE | {"augment.flip": True} | (params or {}))
        return config.model_copy(update={"model": ModelConfig(name="test-lanes")})

    return make


def everything(results, index):
    """The results of a lane, in order."""
    return [found[index] for found in results if index in found]


def timeless(report):
    """A report's content without wall times."""
    metrics = {name: value for name, value in report.metrics.items() if not name.startswith("time/")}
    return report.epoch, report.step, metrics


def assert_close(found, expected, rel):
    for one, other in zip(found, expected, strict=True):
        assert (one.epoch, one.step) == (other.epoch, other.step)
        assert timeless(one)[2] == pytest.approx(timeless(other)[2], rel=rel, abs=rel)


def in_lanes(configs, store, folders=None, **more):
    return list(train_lanes(configs, store, checkpoints=folders or [None] * len(configs), **more))


# --- equal to single trainings ---


def test_one_lane_is_a_single_training_to_the_bit(features, tmp_path):
    alone = [*train(heads(LINEAR), features, checkpoints=tmp_path / "alone")]
    lane = in_lanes([heads(LINEAR)], features, [tmp_path / "lane"])
    assert [timeless(each[0]) for each in lane] == [*map(timeless, alone)]
    one, other = (Checkpoints(tmp_path / name).load() for name in ("alone", "lane"))
    torch.testing.assert_close(one["model"], other["model"], rtol=0, atol=0)


def test_one_lane_that_dies_says_so(features):
    (result,) = in_lanes([heads(ABSURD)], features)
    assert isinstance(result[0], NonFinite)


def assert_same_training(one, other):
    for mine, theirs in (
        (one.model.state_dict(), other.model.state_dict()),
        (one.scale.state_dict(), other.scale.state_dict()),
    ):
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-10)


@pytest.fixture
def double(monkeypatch):
    """Makes trainings in double precision."""
    inputs = ClipModel.image_inputs
    monkeypatch.setattr(ClipModel, "image_inputs", lambda *given: inputs(*given).double())

    def make(configs, store):
        trials = [Training(config, store) for config in configs]
        for trial in trials:
            trial.model.double()
            trial.scale.double()
        return trials

    return make


@pytest.mark.parametrize("params", [(LINEAR, SOFTPLUS, SCALED, HARD), (LINEAR, SOFTPLUS, SOFT, HARD)])
def test_lanes_are_single_trainings_in_double_precision(params, tower, double, pairs):
    """Of one seed, which see the same batches, and of several."""
    configs = [tower({"optimizer.clip_norm": 0.5, **each}) for each in params]
    alone, together = double(configs, pairs), double(configs, pairs)
    for trial in alone:
        for _ in itertools.islice(trial.steps(0, 1), 3):
            pass
    joint = Together([Lane(number, trial, None) for number, trial in enumerate(together)], pairs)
    for ended in itertools.islice(joint.epoch(), 3):
        assert ended == {}
    for one, other in zip(alone, together, strict=True):
        assert_same_training(one, other)


def test_lanes_report_and_save_what_single_trainings_do(features, tmp_path):
    configs = [heads(each) for each in (LINEAR, SOFTPLUS, SOFT, HARD)]
    alone = [[*train(each, features, checkpoints=tmp_path / f"alone-{n}")] for n, each in enumerate(configs)]
    results = in_lanes(configs, features, [tmp_path / f"lane-{number}" for number in range(4)])
    assert [sorted(found) for found in results] == [[0, 1, 2, 3]] * 3
    for number, expected in enumerate(alone):
        assert_close(everything(results, number), expected, rel=1e-4)
        one, other = tmp_path / f"alone-{number}", tmp_path / f"lane-{number}"
        assert sorted(path.name for path in other.iterdir()) == sorted(path.name for path in one.iterdir())
        sizes = [sum(path.stat().st_size for path in folder.glob("*.pt")) for folder in (one, other)]
        assert sizes[1] < 1.1 * sizes[0]  # a lane's weights alone, not those of all
        one, other = (Checkpoints(folder).load() for folder in (one, other))
        assert all(one[name] == other[name] for name in ("config", "data", "architecture", "format"))
        torch.testing.assert_close(one["model"], other["model"], rtol=1e-4, atol=1e-4)


def test_lanes_save_optimizers_as_single_trainings_do(features, tmp_path):
    configs, states = [heads(SOFTPLUS), heads(SCALED)], []
    next(train(configs[1], features, checkpoints=tmp_path / "1"))
    next(train_lanes(configs, features, checkpoints=[None, tmp_path / "2"]))
    for folder in ("1", "2"):
        found = Checkpoints(tmp_path / folder).resume(Training(configs[1], features).identity, 3)
        states.append(found["optimizer"])
    one, other = states
    assert one["param_groups"] == other["param_groups"]
    torch.testing.assert_close(one["state"], other["state"], rtol=1e-4, atol=1e-4)


def test_frozen_towers_in_lanes_stay_as_they_are(tower, double, pairs):
    """Each its own, if the seeds differ."""
    frozen = {"model": ModelConfig(name="test-lanes", freeze="image")}
    configs = [tower(each).model_copy(update=frozen) for each in (LINEAR, SOFT, HARD)]
    alone, together = double(configs, pairs), double(configs, pairs)
    before = [trial.model.tower.visual.state_dict() for trial in double(configs, pairs)]
    for trial in alone:
        next(trial.steps(0, 1))
    next(Together([Lane(number, trial, None) for number, trial in enumerate(together)], pairs).epoch())
    for one, other, start in zip(alone, together, before, strict=True):
        assert_same_training(one, other)
        torch.testing.assert_close(other.model.tower.visual.state_dict(), start, rtol=0, atol=0)


@pytest.mark.whole
def test_towers_in_lanes_report_nearly_what_single_trainings_do(tower, pairs):
    configs = [tower({**each, "training.evaluate_every": 2}) for each in (LINEAR, SOFTPLUS, SCALED, HARD)]
    results = in_lanes(configs, pairs)
    for number, config in enumerate(configs):
        (found,), (expected,) = everything(results, number), train(config, pairs)
        for name in ("train/loss", "temperature/tau", "train/swapped_fraction", "train/lr"):
            assert found.metrics[name] == pytest.approx(expected.metrics[name], rel=1e-3)


# --- each lane on its own ---


@pytest.fixture(scope="module")
def undisturbed(features):
    """What four lanes report of which none ends before the others."""
    return in_lanes([heads(each) for each in (LINEAR, {}, SOFTPLUS, HARD)], features)


def assert_others_equal(found, expected, but):
    for number in {0, 1, 2, 3} - {but}:
        assert [*map(timeless, everything(found, number))] == [*map(timeless, everything(expected, number))]


def test_lane_that_dies_leaves_the_others_as_they_were(undisturbed, features):
    results = in_lanes([heads(each) for each in (LINEAR, ABSURD, SOFTPLUS, HARD)], features)
    (error,) = everything(results, 1)
    with pytest.raises(NonFinite) as alone:
        list(train(heads(ABSURD), features))
    assert str(error) == str(alone.value)
    assert_others_equal(results, undisturbed, but=1)


@pytest.mark.whole
@pytest.mark.parametrize("seed", [0, 1])
def test_tower_that_dies_leaves_the_others_as_they_were(seed, tower, pairs):
    """Whether or not they see the same batches."""
    good, bad = (
        in_lanes([tower(LINEAR), tower({**each, "seed": seed}), tower(SOFTPLUS), tower(HARD)], pairs)
        for each in ({}, ABSURD)
    )
    assert isinstance(everything(bad, 1)[-1], NonFinite)
    assert_others_equal(bad, good, but=1)


def test_dropped_lane_leaves_the_others_as_they_were(undisturbed, features):
    configs = [heads(each) for each in (LINEAR, {}, SOFTPLUS, HARD)]
    results = in_lanes(configs, features, dropped=lambda: [1])
    assert len(everything(results, 1)) == 1
    assert_others_equal(results, undisturbed, but=1)


@pytest.fixture
def ahead(features, tmp_path):
    """Makes the folder of the checkpoints of a training that has stopped after some epochs."""

    def make(epochs, params):
        folder = tmp_path / f"ahead-{epochs}"
        for _ in itertools.islice(train(heads(params), features, checkpoints=folder), epochs):
            pass
        return folder

    return make


def test_lane_that_ends_early_leaves_the_others_as_they_were(ahead, features):
    configs = [heads(each) for each in (LINEAR, {}, SOFTPLUS, HARD)]
    long, short = (in_lanes(configs, features, [None, ahead(epochs, {}), None, None]) for epochs in (1, 2))
    assert [[each.epoch for each in everything(found, 1)] for found in (long, short)] == [[1, 2, 3], [2, 3]]
    assert_others_equal(short, long, but=1)


def test_progress_is_that_of_the_lane_that_is_behind(ahead, features):
    seen = []
    in_lanes([heads(), heads(HARD)], features, [ahead(1, {}), None], progress=lambda epochs=None: seen.append(epochs))
    trained = [each for each in seen if each is not None]
    assert trained == [number / 4 for number in range(1, 13)]


def test_lanes_end_together_when_all_are_dropped(features):
    results = in_lanes([heads(LINEAR), heads(HARD)], features, dropped=lambda: [0, 1])
    assert [sorted(found) for found in results] == [[0, 1]]


@pytest.fixture
def stacked(monkeypatch):
    """The numbers of lanes that have been stacked."""
    numbers = []

    def made(some, store):
        numbers.append(len(some))
        return Together(some, store)

    monkeypatch.setattr(lanes, "Together", made)
    return numbers


def test_lanes_continue_without_those_that_are_over(undisturbed, stacked, features):
    """Once they are half of all: the others are stacked anew, and only their rounding changes."""
    configs = [heads(each) for each in (LINEAR, {}, SOFTPLUS, HARD)]
    results = in_lanes(configs, features, dropped=lambda: [0, 1, 3])
    assert [sorted(found) for found in results] == [[0, 1, 2, 3], [2], [2]]
    assert stacked == [4, 1]
    assert_close(everything(results, 2), everything(undisturbed, 2), rel=1e-4)


# --- resuming ---


def test_lanes_resume_each_from_its_own_epoch(undisturbed, features, tmp_path):
    configs, folders = [heads(each) for each in (LINEAR, {}, SOFTPLUS, HARD)], [tmp_path / str(n) for n in range(4)]
    stopped = train_lanes(configs, features, checkpoints=folders)
    for _ in range(2):
        next(stopped)
    stopped.close()
    for path in [*folders[0].glob("epoch-0002*"), *folders[3].glob("epoch*")]:
        path.unlink()
    results = in_lanes(configs, features, folders)
    epochs = [[each.epoch for each in everything(results, number)] for number in range(4)]
    assert epochs == [[1, 2, 3], [2, 3], [2, 3], [1, 2, 3]]
    for number in range(4):
        assert_close(everything(results, number)[-1:], everything(undisturbed, number)[-1:], rel=1e-4)
    again = in_lanes(configs, features, folders)
    assert [[each.epoch for each in found.values()] for found in again] == [[3, 3, 3, 3]]


def test_single_training_resumes_from_a_lanes_checkpoint(undisturbed, features, tmp_path):
    configs, folders = [heads(each) for each in (LINEAR, SOFTPLUS)], [tmp_path / str(n) for n in range(2)]
    next(train_lanes(configs, features, checkpoints=folders))
    for number, config in zip((0, 2), configs, strict=True):
        found = list(train(config, features, checkpoints=folders[number // 2]))
        assert_close(found, everything(undisturbed, number), rel=1e-4)


@pytest.mark.whole
def test_training_with_convolutions_changes_between_lanes_and_alone(tower, pairs, tmp_path):
    """The moments of convolutions lie in memory in another order in each."""
    configs = [tower({**each, "training.epochs": 3}) for each in (LINEAR, HARD)]
    expected = [list(train(config, pairs))[-1].metrics["train/loss"] for config in configs]
    next(train(configs[0], pairs, checkpoints=tmp_path / "0"))
    stopped = train_lanes(configs, pairs, checkpoints=[tmp_path / "0", tmp_path / "1"])
    for _ in range(2):
        next(stopped)
    stopped.close()
    found = [list(train(each, pairs, checkpoints=tmp_path / str(n))) for n, each in enumerate(configs)]
    assert [each[-1].metrics["train/loss"] for each in found] == pytest.approx(expected, rel=1e-4)


# --- what can be trained in lanes ---


def test_lanes_have_all_in_common_but_temperature_swap_rates_and_seed():
    key = lanes_key(heads())
    for params in (LINEAR, SOFTPLUS, HARD, SOFT, {"optimizer.lr": 0.5}, {"optimizer.weight_decay": 0.0}):
        assert lanes_key(heads(params)) == key
    for params in ({"optimizer.warmup": 0.5}, {"training.epochs": 4}, {"augment.flip": True}):
        assert lanes_key(heads(params)) != key


def test_models_that_can_be_trained_in_lanes(tower, features, pairs):
    assert why_not(heads(), features) is None
    assert why_not(tower(), pairs) is None


def test_parts_of_batches_and_of_graphs_and_compiled_towers_are_refused(tower, pairs):
    assert "compile" in why_not(tower({"training.compile": True}), pairs)
    assert "micro_batch" in why_not(tower({"training.micro_batch": 4}), pairs)
    assert "grad_checkpointing" in why_not(tower({"training.grad_checkpointing": True}), pairs)
    assert why_not(tower({"training.micro_batch": 8}), pairs) is None


def test_towers_that_draw_random_numbers_are_refused(tower, pairs, monkeypatch):
    vision = {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 8, "patch_dropout": 0.5}
    monkeypatch.setitem(PRESETS, "test-dropout", {"embed_dim": 16, "vision_cfg": vision, "text_cfg": TEXT})
    config = tower().model_copy(update={"model": ModelConfig(name="test-dropout")})
    assert why_not(config, pairs) == "its towers draw random numbers"


def test_weights_that_no_loss_depends_on_are_refused(tower, pairs, monkeypatch):
    made = lanes.make_model

    def with_more(*given):
        model = made(*given)
        model.tower.more = torch.nn.Linear(2, 2)
        return model

    monkeypatch.setattr(lanes, "make_model", with_more)
    lanes._misfit.cache_clear()
    assert why_not(tower(), pairs) == "its loss does not depend on tower.more.weight"
    lanes._misfit.cache_clear()


def test_batch_norm_in_bf16_is_refused_on_a_cpu(tower, pairs):
    assert "torch.func cannot vectorize it" in why_not(tower({"training.precision": "bf16"}), pairs)


def test_checkpoints_of_another_trial_are_refused(ahead, features):
    with pytest.raises(UserError, match="another configuration"):
        in_lanes([heads(), heads(HARD)], features, [None, ahead(1, {})])
