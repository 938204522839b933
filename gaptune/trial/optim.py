"""AdamW as CLIP is trained with it, and its learning rate."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.optim import AdamW

from gaptune.config import TrialConfig
from gaptune.text.numbers import exact


def make_optimizer(model: nn.Module, nu: nn.Parameter, config: TrialConfig) -> AdamW:
    """AdamW with three groups: weights with decay; norms and biases without; ν without, at a learning rate of its own.

    As in open_clip's trainer, what has fewer than two dimensions, or "bn", "ln", "bias" in its name, has no weight
    decay.

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
            excluded = parameter.ndim < 2 or any(part in name for part in ("bn", "ln", "bias"))
            (plain if excluded else decayed).append(parameter)
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


def clip_gradients(optimizer: AdamW, most: float | None) -> Tensor:
    """Scales all gradients of an optimizer down together where their norm is larger than allowed.

    Args:
        optimizer: Optimizer whose gradients, that of ν included, are scaled.
        most: The largest norm; None leaves them as they are.

    Returns:
        The norm before, a scalar on the device.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    norm = torch.nn.utils.get_total_norm([each.grad for each in parameters if each.grad is not None])
    if most is not None:
        torch.nn.utils.clip_grads_with_norm_(parameters, most, norm)
    return norm


def set_lr(optimizer: AdamW, factor: float) -> None:
    """Sets each group's learning rate to a fraction of its highest."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * factor
