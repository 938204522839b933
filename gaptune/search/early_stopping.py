"""Early stopping for several objectives: asynchronous successive halving over non-dominated layers.

Follows Schmucker et al. 2021 (arXiv 2106.12639): at each rung a trial is ranked, by ``pareto.ranking.priority``, among
all trials that have reached the rung before it, and goes on if it is among the best ⌊n/η⌋ of the n (at least one, so
the first to come goes on). Asynchronous: nobody waits for a rung to fill.

A rung is a *share* of a trial's own schedule, not a number of epochs: trials of different length are compared at the
same fraction of their learning-rate and temperature schedules. That is not enough for a trial whose τ is still to move
a long way: its scores say little of where it will end. Such trials form a cohort of their own at each rung, and
the ⌊n/η⌋ counts within the cohort.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from gaptune.config import EarlyStoppingConfig
from gaptune.pareto.ranking import last_rank
from gaptune.search.rungs import rung_epoch, rung_fractions
from gaptune.text.numbers import exact


@dataclass
class Rung:
    """The candidates that have reached a fraction of their training in one bracket and cohort, with their points."""

    fraction: float
    numbers: list[int] = field(default_factory=list)
    points: list[tuple[float, ...]] = field(default_factory=list)


class Stopper:
    """Says at each report whether a trial should go on.

    Its whole state is made of the reports in their order: the same reports in the same order give the same decisions,
    which is how it comes back after a restart.

    Args:
        config: Which rule, with what shares.
        seeds: Trials per candidate. A candidate reaches a rung when the last of its seeds does, and is ranked by the
            mean of their points.
    """

    def __init__(self, config: EarlyStoppingConfig, seeds: int = 1) -> None:
        self._config = config
        self._seeds = seeds
        self._fractions = rung_fractions(config)
        self._rungs: dict[tuple[int, int, str], Rung] = {}
        self._level: dict[int, int] = {}
        self._arrived: dict[tuple[int, int], list[tuple[float, ...]]] = {}

    def decide(
        self, candidate: int, trial: int, epoch: int, epochs: int, point: tuple[float, ...], cohort: str = ""
    ) -> str | None:
        """Takes in a report, and decides when it is the candidate's first at or past a rung.

        Args:
            candidate: The set of parameters.
            trial: The trial that reports: one of the candidate's seeds.
            epoch: Epochs trained so far.
            epochs: Epochs of its full budget; a trial that has reached it is never stopped.
            point: Its objectives, larger is better in each.
            cohort: Candidates are compared with those of the same cohort only.

        Returns:
            None to go on, else the reason to stop.
        """
        if self._config.method == "none" or epoch >= epochs:
            return None
        bracket = self.bracket(candidate)
        lowest = self._level.get(trial, bracket)
        reached = [
            i for i, fraction in enumerate(self._fractions) if i >= lowest and epoch >= rung_epoch(fraction, epochs)
        ]
        if not reached:
            return None
        level = reached[-1]
        self._level[trial] = level + 1
        arrived = self._arrived.setdefault((candidate, level), [])
        arrived.append(point)
        if len(arrived) < self._seeds:
            return None
        rung = self._rungs.setdefault((bracket, level, cohort), Rung(self._fractions[level]))
        point = tuple(float(value) for value in np.mean(arrived, axis=0))
        if math.isnan(sum(point)):  # nobody is compared with it, so it does not count among the n
            return f"rung {rung.fraction:.0%}: an objective is missing or not a number"
        rung.numbers.append(candidate)
        rung.points.append(point)
        n = len(rung.points)
        keep = max(1, math.floor(n / exact(self._config.reduction_factor)))
        rank = self._rank(rung)
        if rank < keep:
            return None
        where = f"rung {rung.fraction:.0%}{f' ({cohort})' if cohort else ''}"
        return f"{where}: rank {rank + 1} of {n}, the best {keep} go on"

    def bracket(self, candidate: int) -> int:
        """The bracket of a candidate: bracket b has no rung below the b-th; candidates take turns."""
        return candidate % min(self._config.brackets, max(1, len(self._fractions)))

    def _rank(self, rung: Rung) -> int:
        """The newest candidate's rank in its rung, 0 the best."""
        if self._config.method == "random":
            seed = (self._config.seed, rung.numbers[-1], round(rung.fraction * 1e6))
            return int(np.random.default_rng(seed).integers(len(rung.points)))
        return last_rank(np.array(rung.points), self._config.priority)
