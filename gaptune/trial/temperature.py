"""The temperature τ = 1/β: learnt through a scalar ν, or moved by a schedule."""

from __future__ import annotations

import math
from fractions import Fraction

import torch
from torch import Tensor, nn

from gaptune.config import Temperature
from gaptune.text.numbers import exact


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


def scheduled_tau(knobs: Temperature, progress: Fraction) -> float:
    """τ at a point of training, for a schedule that is not ``learnt``; at its ends it is their very value.

    Args:
        knobs: Schedule, its ends, the share of training over which it moves.
        progress: Steps done over steps in all, in [0, 1]; a fraction, so that no level starts a step late.
    """
    start, end = knobs.tau_start, knobs.tau_end
    passed = min(progress / exact(knobs.share), Fraction(1))
    if knobs.schedule == "step":
        passed = Fraction(min(math.floor(passed * knobs.steps), knobs.steps - 1), knobs.steps - 1)
    if knobs.schedule == "constant" or passed == 0:
        return start
    if passed == 1:
        return end
    moved = float(passed)
    if knobs.schedule == "exponential":
        tau = float(start * (end / start) ** moved)
    else:
        if knobs.schedule == "cosine":
            moved = (1.0 - math.cos(math.pi * moved)) / 2.0
        tau = start + (end - start) * moved
    return min(max(tau, min(start, end)), max(start, end))  # rounding may lead past an end


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

    def forward(self, progress: Fraction) -> Tensor:
        """β at a point of training.

        Args:
            progress: Steps done over steps in all.
        """
        if self.learnt:
            return beta_of(self.nu, self._knobs)
        return torch.tensor(1.0 / scheduled_tau(self._knobs, progress), device=self.nu.device)

    @torch.no_grad()
    def tau(self, progress: Fraction) -> float:
        """τ at a point of training in double precision: a scheduled one, a bound, ``tau_init`` as they were given.

        Args:
            progress: Steps done over steps in all.

        Returns:
            Infinity where β is 0.
        """
        if not self.learnt:
            return scheduled_tau(self._knobs, progress)
        for given in (self._knobs.tau_min, self._knobs.tau_max, self._knobs.tau_init):
            if given is not None and self.nu.item() == torch.tensor(nu_of(1.0 / given, self._knobs)).item():
                return given
        beta = beta_of(self.nu.double(), self._knobs).item()
        return 1.0 / beta if beta else math.inf

    @torch.no_grad()
    def clamp(self) -> None:
        """Brings ν back to where τ is within its bounds, as CLIP does after each step."""
        low = None if self._knobs.tau_max is None else nu_of(1.0 / self._knobs.tau_max, self._knobs)
        high = None if self._knobs.tau_min is None else nu_of(1.0 / self._knobs.tau_min, self._knobs)
        if self.learnt and (low is not None or high is not None):
            self.nu.clamp_(low, high)
