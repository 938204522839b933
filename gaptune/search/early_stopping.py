"""Early stopping for several objectives: asynchronous successive halving over non-dominated layers.

Follows Schmucker et al. 2021 (arXiv 2106.12639): at each rung a candidate is ranked, by ``pareto.ranking.priority``,
among all candidates that have reached the rung so far, and continues if it is among the best ⌊n/η⌋ of the n (at least
one, so the first to arrive continues). Asynchronous: no candidate waits for a rung to fill.

A rung is a *fraction* of a trial's own schedule, not a number of epochs: trials of different length are compared at the
same fraction of their learning-rate and temperature schedules. That is not enough for a trial whose τ will still change
a lot: its metrics do not predict its final metrics. Such trials form a separate cohort at each rung, and ⌊n/η⌋ counts
the candidates of the cohort.

To add a method, write a class with ``decide``, add it to ``STOPPING_METHODS``, and add its name to
``gaptune.config.EarlyStoppingConfig``.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Protocol

import numpy as np

from gaptune.config import EarlyStoppingConfig
from gaptune.ledger import TrialRecord
from gaptune.pareto.ranking import last_in_layer
from gaptune.pareto.sorted_points import SortedPoints
from gaptune.search.rungs import Point, RungReport, Rungs
from gaptune.text.numbers import exact


class StoppingMethod(Protocol):
    """Decides at each rung whether a candidate continues.

    The state of a method depends only on the reports and their order: the same reports in the same order give the same
    decisions. A resumed sweep rebuilds the method from the ledger this way.
    """

    def decide(self, report: RungReport, /) -> str | None:
        """Decides on a candidate at a rung. Its objectives are never NaN.

        Returns:
            The reason to stop it; None to continue.
        """
        ...


class SuccessiveHalving:
    """The best ⌊n/reduction_factor⌋ of the n candidates that have reached a rung continue.

    Args:
        config: Early stopping config; uses ``reduction_factor`` and ``priority``.
    """

    def __init__(self, config: EarlyStoppingConfig) -> None:
        self._config = config
        self._points: defaultdict[tuple[int, float, str], SortedPoints] = defaultdict(SortedPoints)

    def decide(self, report: RungReport) -> str | None:
        """Ranks a candidate among the candidates that reached the rung before."""
        points = self._points[report.rung]
        before, layer = points.add(report.point)
        keep, first, last = _keep(len(points), self._config), before, before + len(layer) - 1
        if first < keep <= last:  # only now the order within the layer matters, which takes long for large layers
            first = last = before + last_in_layer(layer, self._config.priority)
        return None if last < keep else _stopped(report, first, last, len(points), keep)


class RandomStopping:
    """Stops as many candidates as ``SuccessiveHalving`` at the same rungs, with random ranks: a baseline.

    Args:
        config: Early stopping config; uses ``reduction_factor`` and ``seed``.
    """

    def __init__(self, config: EarlyStoppingConfig) -> None:
        self._config = config
        self._count: Counter[tuple[int, float, str]] = Counter()

    def decide(self, report: RungReport) -> str | None:
        """Draws a random rank for a candidate."""
        self._count[report.rung] += 1
        count = self._count[report.rung]
        seed = (self._config.seed, report.candidate, round(report.fraction * 1e6))
        rank = int(np.random.default_rng(seed).integers(count))
        keep = _keep(count, self._config)
        return None if rank < keep else _stopped(report, rank, rank, count, keep)


STOPPING_METHODS: dict[str, Callable[[EarlyStoppingConfig], StoppingMethod]] = {
    "asha": SuccessiveHalving,
    "random": RandomStopping,
}
"""Methods by their names in a sweep config. The name ``none`` stands for no early stopping."""


class EarlyStopping:
    """Early stopping of a sweep: rungs, and the method that decides at each rung.

    Args:
        config: Early stopping config.
        seeds: Number of trials per candidate.
    """

    def __init__(self, config: EarlyStoppingConfig, seeds: int = 1) -> None:
        self._rungs = Rungs(config, seeds)
        self._method = None if config.method == "none" else STOPPING_METHODS[config.method](config)

    def decide(self, trial: TrialRecord, epoch: int, point: Point) -> str | None:
        """Decides on a report of a trial. A trial at its full budget is never stopped.

        Args:
            trial: Trial of the report.
            epoch: Number of epochs trained.
            point: Objectives after that epoch, larger is better in each; NaN where one is missing.

        Returns:
            The reason to stop the candidate of the trial; None to continue.
        """
        if self._method is None:
            return None
        report = self._rungs.reach(trial, epoch, point)
        if report is None:
            return None
        if math.isnan(sum(report.point)):  # not comparable, so it does not count among the n
            return f"{report.name}: an objective is missing or not a number"
        return self._method.decide(report)


def _keep(count: int, config: EarlyStoppingConfig) -> int:
    return max(1, math.floor(count / exact(config.reduction_factor)))


def _stopped(report: RungReport, first: int, last: int, count: int, keep: int) -> str:
    """The reason to stop a candidate with any rank from ``first`` to ``last``, counted from 0."""
    rank = f"rank {first + 1}" + (f" to {last + 1}" if last > first else "")
    return f"{report.name}: {rank} of {count}, only the best {keep} may continue"
