"""Retrieval tested over photographs and seeds: both vary in what a claim is about.

Seeds are paired, and so are photographs: all trials of a sweep are measured on the same ones. A photograph and its
captions were drawn together and stay together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.special import stdtr, stdtrit

from gaptune.ledger import State, SweepRecord, TrialRecord
from gaptune.metrics.table import ROUNDING
from gaptune.paper.claim_tests import Values, above
from gaptune.storage.outcomes import RetrievalOutcomes, load_outcomes

_DRAWS = 1000
_LEVELS = (0.025, 0.975)


@dataclass(frozen=True)
class Retrieval:
    """Mean recall of a set of parameters in both directions.

    Attributes:
        values: By seed, shape (seeds,).
        drawn: The same with random weights of the photographs, shape (draws, seeds); None if it is not known which
            photographs were found.
    """

    values: Values
    drawn: Values | None = None

    def __mul__(self, factor: float) -> Retrieval:
        """A fraction of it, to compare with."""
        return Retrieval(factor * self.values, None if self.drawn is None else factor * self.drawn)

    def above(self, other: Retrieval) -> float:
        """P that it is above another, over photographs and seeds, or over seeds if photographs are not known.

        It is the mean of the p of the paired t-tests under each draw of weights (a Bayesian bootstrap, Rubin 1981, of
        photographs, and the t distribution of seeds), and at least the p of the seeds alone.
        """
        p = above(self.values, other.values)
        if self.drawn is None or other.drawn is None:
            return p
        mean, error = _differences(self.drawn - other.drawn, self.values - other.values)
        certain = np.where(mean > 0, -np.inf, np.inf)
        statistic = np.divide(-mean, error, out=certain, where=error > ROUNDING)
        return max(p, float(stdtr(self.drawn.shape[1] - 1, statistic).mean()))

    def interval(self, other: Retrieval) -> tuple[float, float] | None:
        """95% interval of the difference from another, over photographs and seeds; None if they are not known."""
        if self.drawn is None or other.drawn is None or self.drawn.shape[1] < 2:
            return None
        mean, error = _differences(self.drawn - other.drawn, self.values - other.values)
        seeds = stdtrit(self.drawn.shape[1] - 1, (np.arange(_DRAWS) + 0.5) / _DRAWS)
        low, high = np.quantile(mean + error * np.random.default_rng(0).permutation(seeds), _LEVELS)
        return float(low), float(high)


class Photographs:
    """Random weights of a sweep's validation photographs, and the retrieval of its trials under them.

    Args:
        folder: The sweep's folder; None for a sweep without one.
        metrics: The recalls of which retrieval is the mean.
    """

    def __init__(self, folder: Path | None, metrics: Sequence[str]) -> None:
        self._folder = folder
        self._metrics = metrics
        self._weights: npt.NDArray[np.float64] | None = None

    def retrieval(self, trials: Sequence[TrialRecord]) -> Retrieval:
        """Retrieval of the trials of a set of parameters, one for each seed."""
        values = np.array([np.mean([trial.last[metric] for metric in self._metrics]) for trial in trials])
        found = [outcomes_of(self._folder, trial) for trial in trials]
        drawn = [self._drawn(one) for one in found if one is not None]
        return Retrieval(values, np.stack(drawn, axis=1) if len(drawn) == len(trials) else None)

    def _drawn(self, outcomes: RetrievalOutcomes) -> Values:
        if self._weights is None:
            self._weights = np.random.default_rng(0).standard_exponential((_DRAWS, len(outcomes.captions)))
        recalls = []
        for metric in self._metrics:
            right, queries = outcomes.by_image(metric)
            recalls.append((self._weights @ right) / (self._weights @ queries))
        return np.asarray(np.mean(recalls, axis=0), dtype=np.float64)


def outcomes_of(folder: Path | None, trial: TrialRecord) -> RetrievalOutcomes | None:
    """What a trial of a sweep in a folder has left; None without it."""
    return None if folder is None else load_outcomes(folder / "trials" / f"{trial.number:04d}")


def photographs_known(folder: Path | None, record: SweepRecord) -> bool:
    """Whether every complete trial of a sweep has left which photographs were found."""
    complete = [trial for trial in record.trials.values() if trial.state is State.COMPLETE]
    return folder is not None and all(outcomes_of(folder, trial) is not None for trial in complete)


def _differences(drawn: Values, values: Values) -> tuple[Values, Values]:
    """Mean of the paired differences over the seeds, and its standard error; two of shape (draws,).

    What photographs and seeds do together is in both. The means are drawn towards their own by its part, so that it
    counts once (as in the two-way clustered variance of Cameron, Gelbach & Miller 2011).

    Args:
        drawn: Differences with random weights, shape (draws, seeds).
        values: Differences without, shape (seeds,).
    """
    seeds = len(values)
    mean, error = drawn.mean(axis=1), drawn.std(axis=1, ddof=1) / np.sqrt(seeds)
    both, total = (drawn - values).var(axis=1, ddof=1).mean() / seeds, mean.var()
    kept = np.sqrt(max(0.0, 1 - both / total)) if total > 0 else 1.0
    return values.mean() + kept * (mean - values.mean()), error
