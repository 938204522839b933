"""Rungs and cohorts: when early stopping compares candidates, and which candidates it compares."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gaptune.ledger import TrialRecord
from gaptune.text.numbers import exact

if TYPE_CHECKING:  # commands that only read results use this module, and importing pydantic takes 0.5 s
    from gaptune.config import EarlyStoppingConfig

Point = tuple[float, ...]
"""Objectives of a candidate; larger is better in each."""


@dataclass(frozen=True)
class RungReport:
    """A candidate that has reached a rung with all of its seeds.

    Attributes:
        candidate: Number of the candidate.
        bracket: Bracket of the candidate.
        fraction: Position of the rung as a fraction of training.
        cohort: Cohort of the candidate; only candidates of the same cohort are compared.
        point: Mean of the objectives over the seeds.
    """

    candidate: int
    bracket: int
    fraction: float
    cohort: str
    point: Point

    @property
    def rung(self) -> tuple[int, float, str]:
        """Key that is equal for candidates that are compared with each other."""
        return self.bracket, self.fraction, self.cohort

    @property
    def name(self) -> str:
        """Display name of the rung, such as ``rung 33% (moving)``."""
        return f"rung {self.fraction:.0%}{f' ({self.cohort})' if self.cohort else ''}"


class Rungs:
    """Finds the reports with which a candidate reaches a rung.

    Args:
        config: Early stopping config with rungs, brackets, and cohorts.
        seeds: Number of trials per candidate. A candidate reaches a rung when its last trial does.
    """

    def __init__(self, config: EarlyStoppingConfig, seeds: int = 1) -> None:
        self._config = config
        self._seeds = seeds
        self._fractions = rung_fractions(config)
        self._next: dict[int, int] = {}  # by trial number: the lowest rung not yet reached
        self._arrived: dict[tuple[int, int], list[Point]] = {}  # by candidate and rung

    def reach(self, trial: TrialRecord, epoch: int, point: Point) -> RungReport | None:
        """Processes a report of a trial. Only the first report at or past a rung counts.

        Args:
            trial: Trial of the report.
            epoch: Number of epochs trained.
            point: Objectives after that epoch.

        Returns:
            The candidate at its rung if all of its seeds have reached it, else None.
        """
        bracket = self.bracket(trial.candidate)
        lowest = self._next.get(trial.number, bracket)
        reached = [
            i
            for i, fraction in enumerate(self._fractions)
            if i >= lowest and rung_epoch(fraction, trial) <= epoch < trial.epochs
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
        """Returns the bracket of a candidate; candidates take turns. Bracket b omits the first b rungs."""
        return candidate % min(self._config.brackets, max(1, len(self._fractions)))


def rung_fractions(config: EarlyStoppingConfig) -> list[float]:
    """Returns the fractions of training at the rungs: min_fraction times powers of reduction_factor."""
    fractions = []
    fraction = exact(config.min_fraction)
    while float(fraction) < 1.0:
        fractions.append(float(fraction))
        fraction *= exact(config.reduction_factor)
    return fractions


def rung_epoch(fraction: float, trial: TrialRecord) -> int:
    """Returns the epoch of a trial's first report at or past a fraction of training."""
    return trial.next_report(least_epoch(fraction, trial.epochs))


def least_epoch(fraction: float, epochs: int) -> int:
    """Returns the first epoch (at least 1) at or past a fraction of training."""
    return max(1, math.ceil(exact(fraction) * epochs))


def cohort(config: EarlyStoppingConfig, trial: Mapping[str, Any], fraction: float) -> str:
    """Returns the cohort of a trial: ``moving`` while its temperature still changes by a large factor, else empty.

    Args:
        config: Early stopping config; uses ``schedule_aware`` and ``settling_ratio``.
        trial: Flattened configuration of the trial.
        fraction: Completed fraction of the training.
    """
    if not config.schedule_aware or trial["temperature.schedule"] in ("learned", "constant"):
        return ""
    start, end = float(trial["temperature.tau_start"]), float(trial["temperature.tau_end"])
    moved = fraction / float(trial["temperature.schedule_fraction"])
    if moved >= 1.0 or max(start, end) / min(start, end) < config.settling_ratio:
        return ""
    return "moving"
