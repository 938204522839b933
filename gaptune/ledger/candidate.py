"""A candidate: one set of parameters, trained on one seed or several."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from gaptune.ledger.header import Constraint
from gaptune.ledger.state import SweepRecord, TrialRecord
from gaptune.pareto.objectives import Objectives


@dataclass(frozen=True)
class Candidate:
    """One set of parameters, and what its trials come to together.

    Attributes:
        trials: A trial for each seed, at least one.
        objectives: The sweep's objectives.
        constraints: The sweep's constraints.
    """

    trials: Sequence[TrialRecord]
    objectives: Objectives
    constraints: tuple[Constraint, ...] = ()

    @staticmethod
    def of(record: SweepRecord, trials: Sequence[TrialRecord]) -> Candidate:
        """Some trials of a sweep as a candidate of it."""
        return Candidate(trials, record.objectives, record.constraints)

    @property
    def trial(self) -> TrialRecord:
        """The trial of the first seed."""
        return self.trials[0]

    @cached_property
    def values(self) -> list[float]:
        """The means of the objectives over the seeds; NaN for what a seed lacks."""
        return self._means(self.objectives.metrics)

    @cached_property
    def stds(self) -> list[float]:
        """The standard deviations of the objectives over the seeds; 0 with a single seed."""
        return self._stds(self.objectives.metrics)

    @property
    def errors(self) -> list[float]:
        """The standard errors of the means; 0 with a single seed, which says nothing of chance."""
        return [std / math.sqrt(len(self.trials)) for std in self.stds]

    @cached_property
    def violations(self) -> dict[str, float]:
        """By how much the mean of each constrained metric breaks its constraint; 0 or less if it is kept."""
        return {one.metric: one.violation(self.mean(one.metric)) for one in self.constraints}

    @property
    def feasible(self) -> bool:
        """Whether the means keep all constraints."""
        return all(one.keeps(self.mean(one.metric)) for one in self.constraints)

    @property
    def broken(self) -> list[Constraint]:
        """The constraints that the means break."""
        return [one for one in self.constraints if not one.keeps(self.mean(one.metric))]

    def mean(self, metric: str) -> float:
        """The mean of any metric over the seeds; NaN if a seed lacks it."""
        return self._means([metric])[0]

    def error(self, metric: str) -> float:
        """The standard error of a metric's mean; 0 with a single seed."""
        return self._stds([metric])[0] / math.sqrt(len(self.trials))

    def values_at(self, epoch: int) -> list[float]:
        """The means of the objectives after an epoch, over the seeds that have reported it; NaN without any."""
        there = [report.metrics for trial in self.trials for report in trial.reports if report.epoch == epoch]
        if not there:
            return [math.nan] * len(self.objectives)
        return [float(np.mean([one.get(metric, math.nan) for one in there])) for metric in self.objectives.metrics]

    def _means(self, metrics: Sequence[str]) -> list[float]:
        if len(self.trials) == 1:  # without numpy: a sweep may have ten thousand of them
            return [self.trial.last.get(metric, math.nan) for metric in metrics]
        means: list[float] = self._table(metrics).mean(axis=0).tolist()
        return means

    def _stds(self, metrics: Sequence[str]) -> list[float]:
        if len(self.trials) == 1:
            return [0.0] * len(metrics)
        table = self._table(metrics)
        stds = np.where(np.ptp(table, axis=0) == 0, 0.0, table.std(axis=0, ddof=1))  # std leaves 1e-17 of equal values
        return [float(std) for std in stds]

    def _table(self, metrics: Sequence[str]) -> npt.NDArray[np.float64]:
        rows = [[trial.last.get(metric, math.nan) for metric in metrics] for trial in self.trials]
        return np.array(rows, dtype=float)
