"""AdamW as CLIP is trained with it, and its learning rate."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.optim import AdamW

from gaptune.config import TrialConfig
from gaptune.text.numbers import exact


def has_decay(name: str, weight: Tensor) -> bool:
    """Whether a weight decays; as in open_clip's trainer, norms and biases do not."""
    return weight.ndim >= 2 and not any(part in name for part in ("bn", "ln", "bias"))


def make_optimizer(model: nn.Module, nu: nn.Parameter, config: TrialConfig) -> AdamW:
    """AdamW with three groups: weights with decay; norms and biases without; ν without, at a learning rate of its own.

    Args:
        model: Model whose trainable parameters are optimized.
        nu: The temperature's scalar; left out when it is not learned.
        config: Parameters of optimizer and temperature.
    """
    params = config.optimizer
    decayed: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            (decayed if has_decay(name, parameter) else plain).append(parameter)
    groups = [
        {"params": decayed, "weight_decay": params.weight_decay, "peak": params.lr},
        {"params": plain, "weight_decay": 0.0, "peak": params.lr},
    ]
    if nu.requires_grad:
        peak = (config.temperature.lr or params.lr) * config.temperature.lr_multiplier
        groups.append({"params": [nu], "weight_decay": 0.0, "peak": peak})
    return AdamW(groups, lr=params.lr, betas=(params.beta1, params.beta2), eps=params.eps, fused=True)


def lr_factor(step: int, steps: int, warmup: float) -> float:
    """Fraction of the highest learning rate: linear from 0 in the warm-up, then a half cosine down to 0.

    Args:
        step: Counted from 0.
        steps: Steps in all.
        warmup: Fraction of the steps that is warm-up.
    """
    warm = round(exact(warmup) * steps)
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1.0 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def gradients(optimizer: AdamW) -> list[Tensor]:
    """The gradients of an optimizer's weights; what is frozen, or not used, has none."""
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    return [weight.grad for weight in weights if weight.grad is not None]


def clip_gradients(optimizer: AdamW, most: float | None) -> Tensor:
    """Scales all gradients of an optimizer down together where their norm is larger than allowed.

    Args:
        optimizer: Optimizer whose gradients, that of ν included, are scaled.
        most: The largest norm; None leaves them as they are.

    Returns:
        The norm before, a scalar on the device.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    norm = torch.nn.utils.get_total_norm(gradients(optimizer))
    if most is not None:
        torch.nn.utils.clip_grads_with_norm_(parameters, most, norm)
    return norm


def align_state(optimizer: AdamW) -> None:
    """Gives the moments the memory layout of their weights: fused AdamW takes it for granted.

    Args:
        optimizer: Optimizer whose state comes from a checkpoint, or whose weights have another layout now.
    """
    for weight, state in optimizer.state.items():
        for name in ("exp_avg", "exp_avg_sq"):
            if name in state and state[name].stride() != weight.stride():
                state[name] = torch.empty_like(weight).copy_(state[name])


def set_lr(optimizer: AdamW, factor: float) -> None:
    """Sets each group's learning rate to a fraction of its highest."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * factor
