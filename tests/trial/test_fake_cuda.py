"""Trainings on a card that is not there: which tensor is on which device. Values and speed need a real one."""

import pytest
from fake_cuda import Arrivals, AtOnce, fake_card
from torch._subclasses.fake_tensor import UnsupportedOperatorException

from gaptune.config import EvaluationConfig, TrialConfig, with_params
from gaptune.data.open import open_store
from gaptune.trial import feed, saver, step, train
from gaptune.trial.loop import Training

pytestmark = pytest.mark.whole

BASE = {"device": "cuda", "training.epochs": 2, "training.batch_size": 64}
AUGMENTED = {"augment.crop_min": 0.5, "augment.flip": True}
BF16 = {"training.precision": "bf16"}
SOFT = {"swap.kind": "soft", "swap.probability": 1.0}
HARD = {"swap.kind": "hard", "swap.probability": 1.0}

MODELS = {
    "scenes-tiny": AUGMENTED,
    "photos-small": AUGMENTED | BF16 | SOFT | {"swap.renormalize": True, "optimizer.clip_norm": 1.0},
    "heads": HARD | {"model.head": "residual"},
}
TASKS = ["zeroshot", "probe", "knn", "retrieval"]
TEMPERATURES = [
    *({"temperature.schedule": kind} for kind in ("constant", "linear", "cosine", "exponential", "step")),
    {"temperature.parameterization": "exp_scaled", "temperature.lr_multiplier": 0.1},
    {"temperature.parameterization": "softplus", "temperature.tau_max": 0.1},
]
LESS_MEMORY = [
    {"training.micro_batch": 24},
    {"training.grad_checkpointing": True},
    {"training.micro_batch": 32, "training.grad_checkpointing": True},
]


@pytest.fixture
def on_card(monkeypatch):
    """A context with a card whose values are never looked at: that they are finite is not known."""
    monkeypatch.setattr(step.Updates, "_check", lambda updates: None)
    for module in (feed, saver):
        monkeypatch.setattr(module, "ThreadPoolExecutor", AtOnce)
    return lambda **more: fake_card(monkeypatch, **more)


@pytest.fixture
def card(on_card):
    with on_card() as given:
        yield given


@pytest.fixture
def data(store, small_features):
    """The data of a model."""
    return lambda model: open_store(small_features) if model == "heads" else store


def config(model, **params):
    return with_params(TrialConfig.model_validate({"model": {"name": model}}), BASE | params)


@pytest.mark.parametrize("model", MODELS)
def test_a_model_trains_and_resumes_on_a_card(model, data, card, tmp_path):
    given = config(model, **MODELS[model])
    if model == "scenes-tiny":
        tasks = {"name": "again", "data": str(data(model).path), "tasks": TASKS, "when": "epoch"}
        given = given.model_copy(update={"evaluate": (EvaluationConfig.model_validate(tasks),)})
    assert next(train(given, data(model), checkpoints=tmp_path)).epoch == 1
    assert [report.epoch for report in train(given, data(model), checkpoints=tmp_path)] == [1, 2]


@pytest.mark.parametrize("params", TEMPERATURES, ids=lambda params: "-".join(map(str, params.values())))
def test_every_temperature_trains_on_a_card(params, data, card):
    assert next(train(config("heads", **params, **BF16), data("heads"))).epoch == 1


@pytest.mark.parametrize("swap", [SOFT, HARD], ids=["soft", "hard"])
def test_swaps_train_on_a_card(swap, data, card):
    assert next(train(config("heads", **swap, **{"swap.renormalize": True}), data("heads"))).epoch == 1


@pytest.mark.parametrize("params", LESS_MEMORY, ids=lambda params: "-".join(map(str, params.values())))
def test_batches_that_need_less_memory_train_on_a_card(params, store, card):
    training = Training(config("scenes-tiny", **params, **BF16, **SOFT), store)
    assert sum(1 for _ in training.steps(0, 1)) == 2


def started(store):
    """A training whose step has everything that comes from the CPU: images, texts, crops, a swap, a temperature."""
    every = AUGMENTED | BF16 | SOFT | {"temperature.schedule": "linear", "optimizer.clip_norm": 1.0}
    return Training(config("scenes-tiny", **every), store)


@pytest.mark.parametrize("free", [2**40, 0], ids=["data on the card", "data read ahead"])
def test_no_step_waits_for_the_card(free, store, on_card):
    with on_card(free=free) as card:
        training = started(store)
        before = card.waits
        assert [card.waits - before for _ in training.steps(0, 1)] == [0, 0]


def error_with(left, training):
    """What the error says when a tensor stays on the CPU; empty where nothing is raised."""
    try:
        with Arrivals(left):
            list(training.steps(0, 1))
            training.report(0, 1)
    except (RuntimeError, UnsupportedOperatorException) as error:
        return str(error)
    return ""


@pytest.mark.parametrize("free", [2**40, 0], ids=["data on the card", "data read ahead"])
def test_whatever_is_left_on_the_cpu_is_found(free, store, on_card):
    with on_card(free=free):
        training = started(store)
        with Arrivals() as right:
            list(training.steps(0, 1))
            training.report(0, 1)
        assert len(right.arrived) >= 6  # at least images or their rows, texts, crops, a swap, and labels of the loss
        errors = [error_with(number, training) for number in range(len(right.arrived))]
        unnoticed = [what for what, error in zip(right.arrived, errors, strict=True) if "device" not in error]
    assert unnoticed == []
