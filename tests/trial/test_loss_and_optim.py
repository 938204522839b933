"""CLIP's loss against open_clip's, AdamW's groups, and the learning rate."""

import math

import pytest
import torch
from open_clip import ClipLoss
from sphere import unit
from torch import nn

from gaptune.config import TrialConfig, with_params
from gaptune.data import StoreMeta
from gaptune.trial.loss import clip_loss
from gaptune.trial.model import ClipModel
from gaptune.trial.optim import lr_factor, make_optimizer, set_lr
from gaptune.trial.temperature import LogitScale

DATA = StoreMeta(
    name="d", image_size=32, context_length=8, content_hash="0", splits={}, vocabulary=(5, 9, 49406, 49407)
)


# --- loss ---


@pytest.mark.parametrize("beta", [1.0, 14.3, 100.0])
@pytest.mark.parametrize(("n", "d"), [(2, 3), (17, 8), (64, 32)])
def test_loss_and_gradients_are_open_clips(n, d, beta):
    ours, theirs = (
        [unit(n, d, 1).requires_grad_(), unit(n, d, 2).requires_grad_(), torch.tensor(beta, requires_grad=True)]
        for _ in range(2)
    )
    found, expected = clip_loss(*ours), ClipLoss()(*theirs)
    torch.testing.assert_close(found, expected)
    found.backward()
    expected.backward()
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine.grad, other.grad)


def test_equal_features_have_the_loss_of_guessing():
    same = unit(1, 8).repeat(32, 1)
    assert clip_loss(same, same, torch.tensor(50.0)).item() == pytest.approx(math.log(32))


def test_perfect_features_have_no_loss_at_a_large_logit_scale():
    assert clip_loss(torch.eye(32), torch.eye(32), torch.tensor(100.0)).item() == pytest.approx(0.0, abs=1e-9)


# --- optimizer ---


def optimizer_of(**params):
    config = with_params(TrialConfig(), {name.replace("__", "."): value for name, value in params.items()})
    model, scale = ClipModel(config.model, DATA), LogitScale(config.temperature)
    return model, scale, make_optimizer(model, scale.nu, config)


def test_every_trainable_parameter_is_in_one_group_and_the_towers_own_logit_scale_in_none():
    model, scale, optimizer = optimizer_of()
    grouped = [id(parameter) for group in optimizer.param_groups for parameter in group["params"]]
    wanted = {id(parameter) for parameter in model.parameters() if parameter.requires_grad} | {id(scale.nu)}
    assert len(grouped) == len(set(grouped))
    assert set(grouped) == wanted
    assert id(model.tower.logit_scale) not in grouped


def test_norms_biases_and_nu_have_no_weight_decay_and_all_else_has():
    model, scale, optimizer = optimizer_of(optimizer__weight_decay=0.3)
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    norms = {
        id(parameter)
        for module in model.modules()
        if isinstance(module, nn.LayerNorm | nn.BatchNorm2d)
        for parameter in module.parameters()
    }
    assert decay[id(scale.nu)] == 0.0
    seen = set()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            plain = id(parameter) in norms or name.endswith("bias")
            assert decay[id(parameter)] == (0.0 if plain else 0.3), name
            seen.add(plain)
    assert seen == {True, False}


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({}, 2e-3),
        ({"temperature__lr": 5e-2}, 5e-2),
        ({"temperature__lr_multiplier": 0.1}, 2e-4),
        ({"temperature__lr": 5e-2, "temperature__lr_multiplier": 0.1}, 5e-3),
        ({"temperature__lr_multiplier": 0.0}, 0.0),
    ],
)
def test_nu_has_a_learning_rate_of_its_own(params, expected):
    _, scale, optimizer = optimizer_of(optimizer__lr=2e-3, **params)
    set_lr(optimizer, 0.5)
    decayed, plain, nu = optimizer.param_groups
    assert nu["params"] == [scale.nu]
    assert nu["lr"] == pytest.approx(0.5 * expected)
    assert decayed["lr"] == plain["lr"] == pytest.approx(1e-3)


def test_scheduled_temperature_is_not_optimized():
    _, scale, optimizer = optimizer_of(temperature__schedule="linear")
    assert len(optimizer.param_groups) == 2
    assert all(parameter is not scale.nu for group in optimizer.param_groups for parameter in group["params"])


def test_adamw_gets_its_parameters():
    _, _, optimizer = optimizer_of(optimizer__beta1=0.5, optimizer__beta2=0.7, optimizer__eps=1e-4)
    assert all(group["betas"] == (0.5, 0.7) and group["eps"] == 1e-4 for group in optimizer.param_groups)


# --- learning rate ---


def test_warm_up_rises_in_equal_steps_and_then_a_half_cosine_falls():
    factors = [lr_factor(step, 100, 0.2) for step in range(100)]
    assert factors[:20] == pytest.approx([(step + 1) / 20 for step in range(20)])
    assert factors[20] == 1.0
    assert factors[60] == pytest.approx(0.5)
    assert factors[40] == pytest.approx((1 + math.cos(math.pi / 4)) / 2)
    assert factors[20:] == sorted(factors[20:], reverse=True)
    assert 0.0 < factors[99] < 0.001


def test_without_a_warm_up_the_first_step_has_the_highest_rate():
    assert lr_factor(0, 10, 0.0) == 1.0


def test_with_nothing_but_warm_up_the_last_step_has_the_highest_rate():
    assert [lr_factor(step, 4, 1.0) for step in range(4)] == [0.25, 0.5, 0.75, 1.0]


@pytest.mark.parametrize(
    ("warmup", "steps", "warm"), [(0.29, 100, 29), (0.575, 100, 58), (0.07, 100, 7), (0.145, 1000, 145)]
)
def test_warm_up_has_the_steps_of_its_fraction(warmup, steps, warm):
    factors = [lr_factor(step, steps, warmup) for step in range(steps)]
    assert factors.index(1.0) == warm - 1
    assert factors[0] == 1 / warm


def test_training_of_one_step_learns():
    assert lr_factor(0, 1, 0.1) == 1.0
