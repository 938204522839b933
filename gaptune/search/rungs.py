"""Where early stopping compares trials: rungs at shares of their training, and cohorts of like schedules."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from gaptune.text.numbers import exact

if TYPE_CHECKING:
    from gaptune.config import EarlyStopping


def rung_shares(config: EarlyStopping) -> list[float]:
    """The shares of training at which trials are compared: first, first·η, first·η², … below 1."""
    shares = []
    share = exact(config.first)
    while float(share) < 1.0:
        shares.append(float(share))
        share *= exact(config.eta)
    return shares


def rung_epoch(share: float, epochs: int) -> int:
    """The first epoch at or past a share of training (at least 1)."""
    return max(1, math.ceil(exact(share) * epochs))


def cohort(config: EarlyStopping, knobs: Mapping[str, object], share: float) -> str:
    """The cohort in which a trial is compared: whether its temperature still has far to go.

    Args:
        config: ``schedule_aware`` switches cohorts on; ``moving`` is the factor by which τ must still change.
        knobs: The trial's flattened configuration.
        share: Share of its training that is behind it.
    """
    schedule = knobs["temperature.schedule"]
    if not config.schedule_aware or schedule in ("learnt", "constant"):
        return ""
    start, end = float(str(knobs["temperature.tau_start"])), float(str(knobs["temperature.tau_end"]))
    moved = share / float(str(knobs["temperature.share"]))
    if moved >= 1.0 or max(start, end) / min(start, end) < config.moving:
        return ""
    return "moving"
