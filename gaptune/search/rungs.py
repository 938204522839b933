"""Where early stopping compares trials: rungs at fractions of their training, and cohorts of like schedules."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from gaptune.text.numbers import exact

if TYPE_CHECKING:
    from gaptune.config import EarlyStoppingConfig


def rung_fractions(config: EarlyStoppingConfig) -> list[float]:
    """The fractions of training at which trials are compared: min_fraction times powers of reduction_factor."""
    fractions = []
    fraction = exact(config.min_fraction)
    while float(fraction) < 1.0:
        fractions.append(float(fraction))
        fraction *= exact(config.reduction_factor)
    return fractions


def rung_epoch(fraction: float, epochs: int) -> int:
    """The first epoch at or past a fraction of training (at least 1)."""
    return max(1, math.ceil(exact(fraction) * epochs))


def cohort(config: EarlyStoppingConfig, params: Mapping[str, object], fraction: float) -> str:
    """The cohort in which a trial is compared: whether its temperature still has far to go.

    Args:
        config: ``schedule_aware`` switches cohorts on; ``settling_ratio`` is the factor by which τ must still change.
        params: The trial's flattened configuration.
        fraction: Fraction of its training that is behind it.
    """
    schedule = params["temperature.schedule"]
    if not config.schedule_aware or schedule in ("learned", "constant"):
        return ""
    start, end = float(str(params["temperature.tau_start"])), float(str(params["temperature.tau_end"]))
    moved = fraction / float(str(params["temperature.schedule_fraction"]))
    if moved >= 1.0 or max(start, end) / min(start, end) < config.settling_ratio:
        return ""
    return "moving"
