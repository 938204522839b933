"""The temperature τ = 1/β: learned through a scalar ν, or moved by a schedule."""

from __future__ import annotations

import math
from fractions import Fraction

import torch
from torch import Tensor, nn

from gaptune.config import TemperatureConfig
from gaptune.text.numbers import exact


def beta_of(nu: Tensor, config: TemperatureConfig) -> Tensor:
    """The logit scale β as a function of the learned scalar ν (Yaras et al. 2024, section 4).

    ``exp``: e^ν. ``exp_scaled``: e^(ν/s). ``softplus``: log(1 + e^ν).
    """
    if config.parameterization == "softplus":
        return nn.functional.softplus(nu, threshold=50.0)
    return torch.exp(nu / config.scale) if config.parameterization == "exp_scaled" else torch.exp(nu)


def nu_of(beta: float, config: TemperatureConfig) -> float:
    """The inverse of ``beta_of``."""
    if config.parameterization == "softplus":
        return beta + math.log(-math.expm1(-beta))  # log(e^β - 1) without overflow
    return math.log(beta) * (config.scale if config.parameterization == "exp_scaled" else 1.0)


def scheduled_tau(config: TemperatureConfig, progress: Fraction) -> float:
    """τ at a point of training, for a schedule that is not ``learned``; at its ends it is their very value.

    Args:
        config: Schedule, its ends, the fraction of training over which it moves.
        progress: Steps done over steps in all, in [0, 1]; a fraction, so that no level starts a step late.
    """
    start, end = config.tau_start, config.tau_end
    passed = min(progress / exact(config.schedule_fraction), Fraction(1))
    if config.schedule == "step":
        passed = Fraction(min(math.floor(passed * config.steps), config.steps - 1), config.steps - 1)
    if config.schedule == "constant" or passed == 0:
        return start
    if passed == 1:
        return end
    moved = float(passed)
    if config.schedule == "exponential":
        tau = float(start * (end / start) ** moved)
    else:
        if config.schedule == "cosine":
            moved = (1.0 - math.cos(math.pi * moved)) / 2.0
        tau = start + (end - start) * moved
    return min(max(tau, min(start, end)), max(start, end))  # rounding may lead past an end


class LogitScale(nn.Module):
    """The logit scale β of a training, learned or scheduled.

    Args:
        config: Schedule and bounds.

    Attributes:
        nu: The learned scalar; of a schedule, a parameter that is never used and has no gradient.
    """

    def __init__(self, config: TemperatureConfig) -> None:
        super().__init__()
        self._params = config
        self.learned = config.schedule == "learned"
        start = nu_of(1.0 / config.tau_init, config) if self.learned else 0.0
        self.nu = nn.Parameter(torch.tensor(start), requires_grad=self.learned)

    def beta(self, scheduled: float | None = None) -> Tensor | float:
        """β of a step: by its schedule, or learned, with a gradient.

        Args:
            scheduled: What the schedule says; None where it is learned.
        """
        return beta_of(self.nu, self._params) if scheduled is None else scheduled

    @torch.no_grad()
    def tau(self, progress: Fraction) -> float:
        """τ at a point of training in double precision: a scheduled one, a bound, ``tau_init`` as they were given.

        Args:
            progress: Steps done over steps in all.

        Returns:
            Infinity where β is 0.
        """
        if not self.learned:
            return scheduled_tau(self._params, progress)
        for given in (self._params.tau_min, self._params.tau_max, self._params.tau_init):
            if given is not None and self.nu.item() == torch.tensor(nu_of(1.0 / given, self._params)).item():
                return given
        beta = beta_of(self.nu.double(), self._params).item()
        return 1.0 / beta if beta else math.inf

    def bounds(self) -> tuple[float, float]:
        """Where a learned ν may be, so that τ is within its bounds; infinite where there is none."""
        if not self.learned:
            return -math.inf, math.inf
        low = -math.inf if self._params.tau_max is None else nu_of(1.0 / self._params.tau_max, self._params)
        high = math.inf if self._params.tau_min is None else nu_of(1.0 / self._params.tau_min, self._params)
        return low, high

    @torch.no_grad()
    def clamp(self) -> None:
        """Brings ν back to its bounds, as CLIP does after each step."""
        low, high = self.bounds()
        if (low, high) != (-math.inf, math.inf):
            self.nu.clamp_(low, high)
