"""Do the metrics of a sweep go together? Rank correlations over its candidates, with bootstrap intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gaptune.ledger import SweepRecord
from gaptune.results.front import candidates

Values = npt.NDArray[np.float64]
QUESTIONS = (
    ("retrieval/mean_r1", "geometry/gap"),
    ("retrieval/mean_r1", "uniformity/w2"),
    ("zeroshot/accuracy", "geometry/gap"),
    ("zeroshot/accuracy", "uniformity/w2"),
    ("probe/accuracy", "geometry/gap"),
    ("probe/accuracy", "uniformity/w2"),
)
"""Does retrieval follow the gap here? Do scores follow uniformity?"""
_ENOUGH = 5
_DRAWS = 1000
_CHUNK = 100  # draws at a time, for the sake of memory


@dataclass(frozen=True)
class Correlation:
    """Spearman's ρ between two metrics over the completed candidates.

    Attributes:
        first: A metric.
        second: Another.
        rho: From -1 to 1.
        low: Lower end of the 95 % bootstrap interval.
        high: Upper end.
        count: Candidates in which both were measured.
    """

    first: str
    second: str
    rho: float
    low: float
    high: float
    count: int


def correlations(record: SweepRecord, pairs: Sequence[tuple[str, str]] = QUESTIONS, seed: int = 0) -> list[Correlation]:
    """Rank correlations of pairs of metrics; pairs that fewer than 5 candidates measured are left out.

    The bootstrap draws candidates with replacement, the same ones for every pair, so that pairs can be compared.

    Args:
        record: The sweep.
        pairs: Metrics.
        seed: Of the bootstrap.

    Returns:
        An entry per pair; ρ and its interval are NaN where a metric is the same for all.
    """
    complete = candidates(record)
    size = len(complete)
    values = {metric: np.array([one.mean(metric) for one in complete]) for pair in pairs for metric in pair}
    known = {pair: np.flatnonzero(np.isfinite(values[pair[0]] + values[pair[1]])) for pair in pairs}
    judged = [pair for pair in pairs if len(known[pair]) >= _ENOUGH]
    rng, rhos = np.random.default_rng(seed), np.empty((len(judged), _DRAWS))
    for start in range(0, _DRAWS if judged else 0, _CHUNK):
        drawn = rng.integers(size, size=(_CHUNK, size)) + size * np.arange(_CHUNK)[:, None]
        times = np.bincount(drawn.reshape(-1), minlength=size * _CHUNK).reshape(_CHUNK, size)
        ranked: dict[tuple[str, bytes], Values] = {}  # a metric's ranks serve all its pairs over the same candidates
        for row, pair in zip(rhos, judged, strict=True):
            rows = known[pair]
            keys = [(metric, rows.tobytes()) for metric in pair]
            for metric, key in zip(pair, keys, strict=True):
                if key not in ranked:
                    ranked[key] = _centered_ranks(times[:, rows], values[metric][rows])
            row[start : start + _CHUNK] = _rho(times[:, rows], *(ranked[key] for key in keys))
    found = []
    for (first, second), row in zip(judged, rhos, strict=True):
        rows = known[first, second]
        once = np.ones((1, len(rows)), dtype=np.int64)
        (rho,) = _spearman(once, values[first][rows], values[second][rows])
        low, high = (math.nan, math.nan) if np.isnan(row).all() else np.nanpercentile(row, [2.5, 97.5])
        found.append(Correlation(first, second, float(rho), float(low), float(high), len(rows)))
    return found


def _spearman(times: npt.NDArray[np.int64], x: Values, y: Values) -> Values:
    """Spearman's ρ of each draw, in which each point stands some number of times; NaN where a side is constant."""
    return _rho(times, _centered_ranks(times, x), _centered_ranks(times, y))


def _rho(times: npt.NDArray[np.int64], a: Values, b: Values) -> Values:
    """Pearson's correlation of each draw's centered ranks."""
    heavy = times * a
    with np.errstate(invalid="ignore"):
        scale = np.sqrt(np.einsum("ij,ij->i", heavy, a) * np.einsum("ij,ij,ij->i", times, b, b))
        return np.asarray(np.einsum("ij,ij->i", heavy, b) / scale)


def _centered_ranks(times: npt.NDArray[np.int64], values: Values) -> Values:
    """Ranks less their mean, ties at their mean rank; sorted once for all draws, which makes them quick."""
    order = np.argsort(values, kind="stable")
    starts = np.flatnonzero(np.append(True, np.diff(values[order]) > 0))
    group = np.empty(len(values), dtype=np.int64)
    group[order] = np.cumsum(np.isin(np.arange(len(values)), starts)) - 1
    totals = np.add.reduceat(times[:, order], starts, axis=1)
    upto = np.cumsum(totals, axis=1)
    ranks: Values = (upto - (totals - 1) / 2)[:, group] - (upto[:, -1:] + 1) / 2
    return ranks
