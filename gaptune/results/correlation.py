"""Rank correlations between metrics over the candidates of a sweep, with bootstrap intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from gaptune.ledger import SweepRecord
from gaptune.results.front import candidates
from gaptune.results.unknown import Unknown, Why, too_few, varies

Values = npt.NDArray[np.float64]
QUESTIONS = (
    ("retrieval/mean_r1", "geometry/gap"),
    ("retrieval/mean_r1", "uniformity/w2"),
    ("zeroshot/top1", "geometry/gap"),
    ("zeroshot/top1", "uniformity/w2"),
    ("probe/top1", "geometry/gap"),
    ("probe/top1", "uniformity/w2"),
)
"""Does retrieval follow the gap? Does accuracy follow uniformity?"""
_ENOUGH = 5
_DRAWS = 1000
_CHUNK = 100  # draws at a time, for the sake of memory


@dataclass(frozen=True)
class Correlation:
    """Spearman's ρ between two metrics over the completed candidates.

    Attributes:
        first: A metric.
        second: Another.
        rho: From -1 to 1; None where it is not known.
        low: Lower end of the 95% bootstrap interval; None with ``rho``.
        high: Upper end; None with ``rho``.
        count: Candidates in which both were measured.
        unknown: Why ρ is not known.
    """

    first: str
    second: str
    rho: float | None
    low: float | None
    high: float | None
    count: int
    unknown: Unknown | None = None

    @property
    def direction(self) -> Literal["positively", "negatively"] | None:
        """The sign of the correlation; None if it is not clear."""
        if self.rho is None or self.low is None or self.high is None or self.low <= 0 <= self.high:
            return None
        return "positively" if self.rho > 0 else "negatively"

    def sentence(self) -> str:
        """The correlation in words."""
        if self.rho is None or self.low is None or self.high is None:
            return f"The correlation of {self.first} and {self.second} is not known: {self.unknown}."
        figures = f"ρ = {rounded(self.rho)}, 95% CI {rounded(self.low)} to {rounded(self.high)}"
        if self.direction is None:
            return f"No clear correlation of {self.first} and {self.second} ({figures})."
        return f"{self.first} correlates {self.direction} with {self.second} ({figures})."


def correlations(record: SweepRecord, pairs: Sequence[tuple[str, str]] = QUESTIONS, seed: int = 0) -> list[Correlation]:
    """Rank correlations of pairs of metrics.

    The bootstrap draws candidates with replacement, the same ones for every pair, so that pairs can be compared. A draw
    in which a metric is the same for all has no ρ: the interval takes it for the least and for the most that it can be.

    Args:
        record: The sweep.
        pairs: Metrics.
        seed: Random seed of the bootstrap.

    Returns:
        An entry per pair; ρ and its interval are not known where fewer than 5 candidates have both metrics, or where
        one is the same for all.
    """
    complete = candidates(record)
    size = len(complete)
    values = {metric: np.array([one.mean(metric) for one in complete]) for pair in pairs for metric in pair}
    known = {pair: np.flatnonzero(np.isfinite(values[pair[0]] + values[pair[1]])) for pair in pairs}
    unknown = {pair: _unknown(pair, values, known[pair], size) for pair in pairs}
    judged = [pair for pair in pairs if unknown[pair] is None]
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
    intervals = dict(zip(judged, rhos, strict=True))
    found = []
    for pair in pairs:
        rows, why = known[pair], unknown[pair]
        if why is not None:
            found.append(Correlation(*pair, None, None, None, len(rows), why))
            continue
        (rho,) = _spearman(np.ones((1, len(rows)), dtype=np.int64), values[pair[0]][rows], values[pair[1]][rows])
        low = np.percentile(np.nan_to_num(intervals[pair], nan=-1.0), 2.5)
        high = np.percentile(np.nan_to_num(intervals[pair], nan=1.0), 97.5)
        found.append(Correlation(*pair, float(rho), float(low), float(high), len(rows)))
    return found


def _unknown(
    pair: tuple[str, str], values: dict[str, Values], rows: npt.NDArray[np.intp], complete: int
) -> Unknown | None:
    missing = [metric for metric in dict.fromkeys(pair) if not np.isfinite(values[metric]).any()]
    if complete == 0:
        return too_few(0, _ENOUGH)
    if missing:
        return Unknown(Why.NOT_MEASURED, f"no complete candidate has {' or '.join(missing)}")
    if len(rows) < _ENOUGH:
        return too_few(len(rows), _ENOUGH, "complete with both metrics")
    constant = [metric for metric in dict.fromkeys(pair) if not varies(values[metric][rows])]
    if constant:
        names = " and ".join(constant)
        return Unknown(
            Why.CONSTANT, f"{names} {'is' if len(constant) == 1 else 'are'} the same for all {len(rows)} candidates"
        )
    return None


def rounded(value: float) -> str:
    """Two digits behind the point, and no minus before zero."""
    return f"{value:.2f}".replace("-0.00", "0.00")


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
