"""The hypervolume of a front, each point's part of it, and what several fronts attain."""

from __future__ import annotations

from collections.abc import Sequence

import moocore
import numpy as np
import numpy.typing as npt

from gaptune.pareto.dominance import _LIMIT, Points, front


def hypervolume(points: Points, reference: npt.ArrayLike) -> float:
    """The volume that is dominated by the points and dominates the reference point, exactly.

    Args:
        points: Shape (n, m).
        reference: Shape (m,): the worst point that still counts. Points that are not better in every objective add
            nothing; one that is, and has an infinite value, makes the volume infinite.
    """
    corner = np.asarray(reference, dtype=np.float64)
    better = points[(points > corner).all(axis=1)] - corner
    if len(better) == 0 or np.isinf(better).any():
        return float("inf") if len(better) else 0.0
    exponents = np.frexp(better.max(axis=0))[1]  # scaled by powers of two, which is exact: products cannot overflow
    unit = np.ldexp(better, -exponents)
    volume = moocore.hypervolume(unit, ref=np.zeros(len(corner)), maximise=True)
    with np.errstate(over="ignore", under="ignore"):
        return float(np.ldexp(volume, exponents.sum()))


def normalized_hypervolume(points: Points, reference: npt.ArrayLike, ideal: npt.ArrayLike) -> float:
    """The fraction of the volume between reference and ideal point that the points dominate.

    Args:
        points: Shape (n, m); coordinates beyond the ideal count as the ideal.
        reference: Shape (m,).
        ideal: Shape (m,), better than the reference in every objective.

    Returns:
        Between 0 and 1; NaN when a coordinate of either corner is.
    """
    low, high = np.asarray(reference, dtype=np.float64), np.asarray(ideal, dtype=np.float64)
    if np.isnan(low).any() or np.isnan(high).any():
        return float("nan")
    return hypervolume(np.minimum((points - low) / (high - low), 1.0), np.zeros(len(low)))


def attained(sets: Sequence[Points], count: int) -> Points:
    """What at least some number of repeats attain: one surface of the empirical attainment function, two objectives.

    A point is attained by a repeat when one of the repeat's points is at least as good in both objectives (Grunert da
    Fonseca et al. 2001). With ``count`` half of the repeats this is their median front.

    Args:
        sets: The points of each repeat, each of shape (n, 2); points that are not finite are ignored.
        count: From 1 to the number of repeats.

    Returns:
        The corners of the surface, non-dominated, ascending in the first objective, of shape (k, 2).
    """
    known = [points[(np.abs(points) < _LIMIT).all(axis=1)] for points in sets]
    known = [points for points in known if len(points)]  # a repeat without points attains nothing
    if len(known) < count:
        return np.empty((0, 2))
    repeat = np.repeat(np.arange(len(known)), [len(points) for points in known])
    surfaces = moocore.eaf(-np.vstack(known), sets=repeat, percentiles=[100 * count / len(known)])
    corners: Points = -surfaces[:, :2]
    return corners[np.argsort(corners[:, 0])]


def contributions(points: Points, reference: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """The hypervolume that would be lost without each point; nothing for points that are there twice.

    A point's own volume less what the others dominate of it (the exclusive hypervolume of While et al. 2012, WFG).
    Not ``moocore.hv_contributions``: with four objectives it says 0 for what is less than about 1e-8 of the whole.

    Args:
        points: Shape (n, m), without NaN.
        reference: Shape (m,).
    """
    lost = np.zeros(len(points))
    for row in np.flatnonzero(front(points)):
        shared = np.minimum(np.delete(points, row, axis=0), points[row])
        lost[row] = hypervolume(points[row, None], reference) - hypervolume(shared[front(shared)], reference)
    return np.maximum(lost, 0.0)
