"""Do the metrics of a sweep go together? Rank correlations over its candidates, with bootstrap intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

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
_DRAWS = 2000


@dataclass(frozen=True)
class Correlation:
    """Spearman's ρ between two metrics over the completed candidates, with a 95 % bootstrap interval."""

    first: str
    second: str
    rho: float
    low: float
    high: float
    count: int


def correlations(record: SweepRecord, pairs: Sequence[tuple[str, str]] = QUESTIONS, seed: int = 0) -> list[Correlation]:
    """Rank correlations of pairs of metrics; pairs that fewer than 5 candidates measured are left out.

    Args:
        record: The sweep.
        pairs: Metrics.
        seed: Of the bootstrap, which draws candidates with replacement.
    """
    found, rng = [], np.random.default_rng(seed)
    complete = candidates(record)
    for first, second in pairs:
        values = np.array([(one.mean(first), one.mean(second)) for one in complete]).reshape(-1, 2)
        values = values[np.isfinite(values).all(axis=1)]
        if len(values) < 5:
            continue
        draws = values[rng.integers(len(values), size=(_DRAWS, len(values)))]
        rhos = _spearman(draws[..., 0], draws[..., 1])
        low, high = np.nanpercentile(rhos, [2.5, 97.5])
        (rho,) = _spearman(values[None, :, 0], values[None, :, 1])
        found.append(Correlation(first, second, float(rho), float(low), float(high), len(values)))
    return found


def _spearman(x: Values, y: Values) -> Values:
    """Spearman's ρ of each row, with ties at their mean rank; NaN for a constant row."""
    a, b = rankdata(x, axis=1), rankdata(y, axis=1)
    a, b = a - a.mean(axis=1, keepdims=True), b - b.mean(axis=1, keepdims=True)
    with np.errstate(invalid="ignore"):
        return np.asarray((a * b).sum(axis=1) / np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1)))
