"""One-sided tests over a few paired seeds that keep their error rate, also where nothing varies.

``benchmarks/claim_errors.py`` measures how often each is wrong.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from scipy.special import stdtr
from scipy.stats import page_trend_test, rankdata

from gaptune.metrics.table import ROUNDING

LEVEL = 0.05
"""Level of the tests."""
FEWEST = 3
"""Seeds that a test needs: two differences hardly show how much differences vary."""

Values = npt.NDArray[np.float64]


def above(one: Values, other: Values) -> float:
    """P of a paired t-test that one is above the other.

    Differences that are all the same have no spread to compare with; for them it is the p of an exact sign-flip test,
    which is 1/2^n at best.

    Args:
        one: Shape (seeds,).
        other: Shape (seeds,).
    """
    differences = one - other
    rounding = ROUNDING * max(float(np.abs(one).max()), float(np.abs(other).max()))
    if float(np.abs(differences).max()) <= rounding:
        return 1.0
    if float(np.ptp(differences)) <= rounding:
        return float(0.5 ** len(differences)) if differences[0] > 0 else 1.0
    statistic = differences.mean() / (differences.std(ddof=1) / math.sqrt(len(differences)))
    return float(stdtr(len(differences) - 1, -statistic))


def falls(values: Values) -> float:
    """P of Page's trend test that values fall from row to row.

    Args:
        values: Shape (steps, seeds).
    """
    return float(page_trend_test(-values.T).pvalue)


def rises(values: Values) -> list[int]:
    """The rows after which values rise for sure: by paired tests at ``LEVEL``, with Holm's correction."""
    ps = holm([above(after, before) for before, after in pairwise(values)])
    return [row for row, p in enumerate(ps) if p < LEVEL]


def peak(values: Values, test: Callable[[int, int], float] | None = None) -> tuple[int, float]:
    """The row that stands out most above both ends, and the p that some row does.

    A row is above both ends by the larger p of two paired tests. The row is picked on the same values, so that its p is
    multiplied by the number of rows that could have been picked.

    Args:
        values: Shape (steps, seeds), three steps at least.
        test: P that one row is above another; by default ``above`` over the seeds.
    """
    test = test or (lambda row, end: above(values[row], values[end]))
    inner = {row: max(test(row, end) for end in (0, len(values) - 1)) for row in range(1, len(values) - 1)}
    best = min(inner, key=lambda row: (inner[row], -float(values[row].mean())))
    return best, min(1.0, len(inner) * inner[best])


def follows_more(values: Values, one: Values, other: Values) -> tuple[float, float, float]:
    """Whether values have the larger rank correlation with one thing than with another (Williams 1959; Steiger 1980).

    Args:
        values: Shape (n,), n at least 5.
        one: Shape (n,).
        other: Shape (n,).

    Returns:
        Spearman's ρ with one and with the other, and p; all NaN where one of the three does not vary.
    """
    if any(np.ptp(each) == 0 for each in (values, one, other)):
        return math.nan, math.nan, math.nan
    ranks = [rankdata(each) for each in (values, one, other)]
    (_, with_one, with_other), (*_, between), _ = np.corrcoef(ranks).tolist()
    n = len(values)
    determinant = 1 - with_one**2 - with_other**2 - between**2 + 2 * with_one * with_other * between
    mean = (with_one + with_other) / 2
    spread = 2 * (n - 1) / (n - 3) * max(determinant, 0.0) + mean**2 * (1 - between) ** 3
    if (with_one - with_other) ** 2 * (1 + between) == 0 or spread == 0:
        return with_one, with_other, 0.5
    statistic = (with_one - with_other) * math.sqrt((n - 1) * (1 + between) / spread)
    return with_one, with_other, float(stdtr(n - 3, -statistic))


def holm(ps: Sequence[float]) -> list[float]:
    """P corrected for the number of tests, so that the chance of any false finding stays at the level (Holm 1979)."""
    order = sorted(range(len(ps)), key=lambda index: ps[index])
    steps = np.maximum.accumulate([min(1.0, (len(ps) - rank) * ps[index]) for rank, index in enumerate(order)])
    return [float(steps[order.index(index)]) for index in range(len(ps))]
