"""Trainings on a card that is not there: which tensor is on which device. Values and speed need a real one."""

import pytest
import torch.distributed as dist
from fake_cuda import Arrivals, AtOnce, fake_card
from torch._subclasses.fake_tensor import UnsupportedOperatorException

from gaptune.config import EvaluationConfig, TrialConfig, with_params
from gaptune.data.open import open_store
from gaptune.trial import feed, saver, stacked_updates, step, train
from gaptune.trial.evaluate import Evaluator, Where
from gaptune.trial.lanes import train_lanes, why_not
from gaptune.trial.loop import Training
from gaptune.trial.ranks import Ranks
from gaptune.trial.together import Lane, Together

pytestmark = pytest.mark.whole

BASE = {"device": "cuda", "training.epochs": 2, "training.batch_size": 128}
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
    {"training.micro_batch": 48},
    {"training.micro_batch": 64, "training.grad_checkpointing": True},
]


@pytest.fixture
def on_card(monkeypatch):
    """A context with a card whose values are never looked at: that they are finite is not known."""
    monkeypatch.setattr(step.Updates, "_check", lambda updates: None)
    monkeypatch.setattr(stacked_updates, "non_finite", lambda *_: None)
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
        tasks = {"name": "again", "data": str(data(model).path), "tasks": TASKS}
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
    assert sum(1 for _ in training.steps(0, 1)) == 1


def started(store, batch=128):
    """A training whose step has everything that comes from the CPU: images, texts, crops, a swap, a temperature."""
    every = AUGMENTED | BF16 | SOFT | {"temperature.schedule": "linear", "optimizer.clip_norm": 1.0}
    return Training(config("scenes-tiny", **every, **{"training.batch_size": batch}), store)


@pytest.mark.parametrize("free", [2**40, 0], ids=["data on the card", "data read ahead"])
def test_no_step_waits_for_the_card(free, store, on_card):
    with on_card(free=free) as card:
        training = started(store, batch=32)
        before = card.waits
        assert [card.waits - before for _ in training.steps(0, 1)] == [0, 0, 0, 0]


def lanes_of(model):
    """Three trials that differ in all that lanes may differ in."""
    first = MODELS[model] | {"optimizer.clip_norm": 1.0}
    second = first | {"temperature.schedule": "linear", "swap.kind": "none", "seed": 1}
    third = first | {"temperature.parameterization": "softplus", "swap.renormalize": True, "optimizer.lr": 1e-3}
    return [config(model, **each) for each in (first, second, third)]


@pytest.mark.parametrize("model", MODELS)
def test_models_are_vectorized_on_a_card(model, data, card):
    assert why_not(lanes_of(model)[0], data(model)) is None


def test_lanes_train_and_resume_on_a_card(data, card, tmp_path):
    configs = lanes_of("heads")
    given = {"checkpoints": [tmp_path / str(number) for number in range(3)]}
    began = train_lanes(configs, data("heads"), **given)
    assert [report.epoch for report in next(began).values()] == [1, 1, 1]
    began.close()
    rounds = train_lanes(configs, data("heads"), **given)
    assert [[report.epoch for report in each.values()] for each in rounds] == [[1, 1, 1], [2, 2, 2]]


@pytest.mark.parametrize("model", MODELS)
def test_no_step_of_lanes_waits_for_the_card_but_the_last_of_an_epoch(model, data, card):
    trials = [Training(with_params(each, {"training.batch_size": 32}), data(model)) for each in lanes_of(model)]
    together = Together([Lane(number, trial, None) for number, trial in enumerate(trials)], data(model))
    before, epoch = card.waits, together.epoch()
    waits = [card.waits - before for _ in epoch]
    assert waits[:-1] == [0] * (together.per_epoch - 1)
    assert waits[-1] > 0


@pytest.mark.parametrize("model", MODELS)
def test_a_rank_sends_what_is_on_the_card_and_does_not_wait_for_it(model, data, card, monkeypatch):
    """What the other ranks would add is left out: there is no NCCL without a card."""
    sent = []
    for name in ("all_reduce", "broadcast"):
        monkeypatch.setattr(dist, name, lambda tensor, *_: sent.append(tensor.is_cuda))
    training = Training(config(model, **MODELS[model]), data(model), ranks=Ranks(0, 2))
    training.align()
    before = card.waits
    assert next(training.steps(0, 1)) is None
    assert card.waits == before
    assert len(sent) >= 3  # the weights, the features, the gradients; the backward pass is not that of torch
    assert all(sent)


def unnoticed(run):
    """What can be left on the CPU without an error, and all that reaches the card."""
    with Arrivals() as right:
        run()
    return [what for number, what in enumerate(right.arrived) if "device" not in error_with(number, run)], right.arrived


def error_with(left, run):
    try:
        with Arrivals(left):
            run()
    except (RuntimeError, UnsupportedOperatorException) as error:
        return str(error)
    return ""


def test_whatever_a_step_leaves_on_the_cpu_is_found(store, card):
    training = started(store)
    missed, arrived = unnoticed(lambda: next(training.steps(0, 1)))
    assert len(arrived) >= 6  # at least images or their rows, texts, crops, a swap, and the labels of the loss
    assert missed == []


def test_whatever_an_evaluation_leaves_on_the_cpu_is_found(store, card):
    training = started(store)
    evaluator = Evaluator(store, [], Where(training.device))
    missed, arrived = unnoticed(lambda: evaluator(training.model, last=True))
    assert len(arrived) >= 4  # at least images and texts of two kinds
    assert missed == []


def test_whatever_a_step_of_lanes_leaves_on_the_cpu_is_found(small_features, card):
    features = open_store(small_features)
    trials = [Training(with_params(each, {"training.batch_size": 32}), features) for each in lanes_of("heads")]
    together = Together([Lane(number, trial, None) for number, trial in enumerate(trials)], features)
    missed, arrived = unnoticed(lambda: next(together.epoch()))
    assert len(arrived) >= 8  # at least features, texts, temperatures, swaps, factors of AdamW, labels
    assert missed == []
