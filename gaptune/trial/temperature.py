"""The temperature τ = 1/β: learnt through a scalar ν, or moved by a schedule."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from gaptune.config import Temperature


def beta_of(nu: Tensor, knobs: Temperature) -> Tensor:
    """The logit scale β as a function of the learnt scalar ν (Yaras et al. 2024, section 4).

    ``exp``: e^ν. ``exp_scaled``: e^(ν/s). ``softplus``: log(1 + e^ν).
    """
    if knobs.parameterization == "softplus":
        return nn.functional.softplus(nu, threshold=50.0)
    return torch.exp(nu / knobs.scale) if knobs.parameterization == "exp_scaled" else torch.exp(nu)


def nu_of(beta: float, knobs: Temperature) -> float:
    """The inverse of ``beta_of``."""
    if knobs.parameterization == "softplus":
        return beta + math.log(-math.expm1(-beta))  # log(e^β - 1) without overflow
    return math.log(beta) * (knobs.scale if knobs.parameterization == "exp_scaled" else 1.0)


def scheduled_tau(knobs: Temperature, progress: float) -> float:
    """τ at a point of training, for a schedule that is not ``learnt``.

    Args:
        knobs: Schedule, its ends, the share of training over which it moves.
        progress: Steps done over steps in all, in [0, 1].
    """
    start, end = knobs.tau_start, knobs.tau_end
    moved = min(progress / knobs.share, 1.0)
    if knobs.schedule == "constant":
        return start
    if knobs.schedule == "exponential":
        return float(start * (end / start) ** moved)
    if knobs.schedule == "cosine":
        moved = (1.0 - math.cos(math.pi * moved)) / 2.0
    elif knobs.schedule == "step":
        moved = min(int(moved * knobs.steps), knobs.steps - 1) / (knobs.steps - 1)
    return start + (end - start) * moved


class LogitScale(nn.Module):
    """The logit scale β of a training, learnt or scheduled.

    Args:
        knobs: Which, and how.

    Attributes:
        nu: The learnt scalar; of a schedule, a parameter that is never used and has no gradient.
    """

    def __init__(self, knobs: Temperature) -> None:
        super().__init__()
        self._knobs = knobs
        self.learnt = knobs.schedule == "learnt"
        start = nu_of(1.0 / knobs.tau_init, knobs) if self.learnt else 0.0
        self.nu = nn.Parameter(torch.tensor(start), requires_grad=self.learnt)

    def forward(self, progress: float) -> Tensor:
        """β at a point of training.

        Args:
            progress: Steps done over steps in all.
        """
        if self.learnt:
            return beta_of(self.nu, self._knobs)
        return torch.tensor(1.0 / scheduled_tau(self._knobs, progress), device=self.nu.device)

    @torch.no_grad()
    def clamp(self) -> None:
        """Brings ν back to where τ is within its bounds, as CLIP does after each step."""
        low = None if self._knobs.tau_max is None else nu_of(1.0 / self._knobs.tau_max, self._knobs)
        high = None if self._knobs.tau_min is None else nu_of(1.0 / self._knobs.tau_min, self._knobs)
        if self.learnt and (low is not None or high is not None):
            self.nu.clamp_(low, high)
