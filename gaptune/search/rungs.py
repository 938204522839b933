"""Where early stopping compares candidates: rungs at fractions of their training, and cohorts of like schedules."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gaptune.ledger import TrialRecord
from gaptune.text.numbers import exact

if TYPE_CHECKING:  # reading commands use this module, and pydantic takes half a second to load
    from gaptune.config import EarlyStoppingConfig

Point = tuple[float, ...]
"""The objectives of a candidate; larger is better in each."""


@dataclass(frozen=True)
class RungReport:
    """A candidate that reaches a rung, with the last of its seeds.

    Attributes:
        candidate: Number of the candidate.
        bracket: Bracket of the candidate.
        fraction: Fraction of the training at which the rung is.
        cohort: Cohort of the candidate; candidates are compared with those of the same cohort only.
        point: Mean of the objectives over the seeds.
    """

    candidate: int
    bracket: int
    fraction: float
    cohort: str
    point: Point

    @property
    def rung(self) -> tuple[int, float, str]:
        """What the candidates that are compared with this one have in common."""
        return self.bracket, self.fraction, self.cohort

    @property
    def name(self) -> str:
        """The rung for people, such as ``rung 33% (moving)``."""
        return f"rung {self.fraction:.0%}{f' ({self.cohort})' if self.cohort else ''}"


class Rungs:
    """Finds the reports with which a candidate reaches a rung.

    Args:
        config: Rungs, brackets and cohorts.
        seeds: Number of trials per candidate. A candidate reaches a rung when the last of them does.
    """

    def __init__(self, config: EarlyStoppingConfig, seeds: int = 1) -> None:
        self._config = config
        self._seeds = seeds
        self._fractions = rung_fractions(config)
        self._next: dict[int, int] = {}  # by trial, the lowest rung that it has not reached
        self._arrived: dict[tuple[int, int], list[Point]] = {}  # by candidate and rung

    def reach(self, trial: TrialRecord, epoch: int, point: Point) -> RungReport | None:
        """Takes a report of a trial, of which only the first at or past a rung counts.

        Args:
            trial: The trial that reports.
            epoch: Number of epochs trained.
            point: Objectives after that epoch.

        Returns:
            The candidate at its rung, if this report completes it.
        """
        bracket = self.bracket(trial.candidate)
        lowest = self._next.get(trial.number, bracket)
        reached = [
            i
            for i, fraction in enumerate(self._fractions)
            if i >= lowest and rung_epoch(fraction, trial.epochs) <= epoch < trial.epochs
        ]
        if not reached:
            return None
        self._next[trial.number] = reached[-1] + 1
        arrived = self._arrived.setdefault((trial.candidate, reached[-1]), [])
        arrived.append(point)
        if len(arrived) < self._seeds:
            return None
        return RungReport(
            candidate=trial.candidate,
            bracket=bracket,
            fraction=self._fractions[reached[-1]],
            cohort=cohort(self._config, trial.config, epoch / trial.epochs),
            point=tuple(float(value) for value in np.mean(arrived, axis=0)),
        )

    def bracket(self, candidate: int) -> int:
        """The bracket of a candidate: bracket b has no rung below the b-th; candidates take turns."""
        return candidate % min(self._config.brackets, max(1, len(self._fractions)))


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


def cohort(config: EarlyStoppingConfig, trial: Mapping[str, Any], fraction: float) -> str:
    """The cohort in which a trial is compared: ``moving`` while its temperature still has far to go, else empty.

    Args:
        config: ``schedule_aware`` switches cohorts on; ``settling_ratio`` is the factor by which τ must still change.
        trial: Flattened configuration of the trial.
        fraction: Fraction of its training that is done.
    """
    if not config.schedule_aware or trial["temperature.schedule"] in ("learned", "constant"):
        return ""
    start, end = float(trial["temperature.tau_start"]), float(trial["temperature.tau_end"])
    moved = fraction / float(trial["temperature.schedule_fraction"])
    if moved >= 1.0 or max(start, end) / min(start, end) < config.settling_ratio:
        return ""
    return "moving"
