"""Trainings on a card that is not there: which tensor is on which device. Values and speed need a real one."""

import pytest
from fake_cuda import Arrivals, fake_card
from torch._subclasses.fake_tensor import UnsupportedOperatorException

from gaptune.config import EvaluationConfig, TrialConfig, with_params
from gaptune.data.open import open_store
from gaptune.trial import train
from gaptune.trial.loop import Training

pytestmark = pytest.mark.whole

BASE = {"device": "cuda", "training.epochs": 2, "training.batch_size": 64}
AUGMENTED = {"augment.crop_min": 0.5, "augment.flip": True}
BF16 = {"training.precision": "bf16"}
SOFT = {"swap.kind": "soft", "swap.probability": 1.0}
HARD = {"swap.kind": "hard", "swap.probability": 1.0}

MODELS = {
    "scenes-tiny": AUGMENTED | {"training.precision": "fp32"},
    "photos-small": AUGMENTED | BF16 | SOFT | {"swap.renormalize": True, "optimizer.clip_norm": 1.0},
    "heads": HARD | {"model.head": "residual"},
}
TASKS = ["zeroshot", "probe", "knn", "retrieval"]
TEMPERATURES = [
    *({"temperature.schedule": kind} for kind in ("constant", "linear", "cosine", "exponential", "step")),
    {"temperature.parameterization": "exp_scaled", "temperature.lr_multiplier": 0.1},
    {"temperature.parameterization": "softplus", "temperature.tau_max": 0.1},
]


@pytest.fixture
def card(monkeypatch):
    with fake_card(monkeypatch):
        yield


def config(model, **params):
    return with_params(TrialConfig.model_validate({"model": {"name": model}}), BASE | params)


@pytest.fixture
def data(store, small_features):
    """The data of a model."""
    return lambda model: open_store(small_features) if model == "heads" else store


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


def started(store):
    """A training whose step has everything that comes from the CPU: images, texts, crops, a swap, a temperature."""
    every = AUGMENTED | BF16 | SOFT | {"temperature.schedule": "linear", "training.batch_size": 128}
    return Training(config("scenes-tiny", **every), store)


def error_with(left, training):
    """What the error says when a tensor stays on the CPU; empty where nothing is raised."""
    try:
        with Arrivals(left):
            training.epochs(0, 1)
    except (RuntimeError, UnsupportedOperatorException) as error:
        return str(error)
    return ""


def test_whatever_is_left_on_the_cpu_is_found(store, card):
    training = started(store)
    with Arrivals() as right:
        training.epochs(0, 1)
    assert len(right.arrived) >= 6  # at least images, texts, two of the crops, labels of the loss, weights of the swap
    errors = [error_with(number, training) for number in range(len(right.arrived))]
    unnoticed = [what for what, error in zip(right.arrived, errors, strict=True) if "device" not in error]
    assert unnoticed == []
