"""The mathematics of Pareto fronts: moocore's C code, and what it lacks (NaN, normalization, rules of diversity).

Points are float arrays of shape (n, m): n trials, m objectives, *larger is better in every column* (``oriented``
flips what is minimized). A point dominates another when it is at least as good in every objective and better in one.
A point with a NaN dominates nothing and is never on a front.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import moocore
import numpy as np
import numpy.typing as npt

Points = npt.NDArray[np.float64]
Rule = Literal["epsilon_net", "crowding", "hypervolume"]

_LIMIT = np.finfo(np.float64).max
"""What moocore's C code keeps for itself: a coordinate as large as this or infinite ends the process (0.3.2)."""


def oriented(values: npt.ArrayLike, maximize: Sequence[bool]) -> Points:
    """Turns values so that larger is better in every column.

    Args:
        values: Shape (n, m).
        maximize: For each of the m objectives whether larger is better.
    """
    return np.asarray(values, dtype=np.float64).reshape(-1, len(maximize)) * np.where(maximize, 1.0, -1.0)


def front(points: Points) -> npt.NDArray[np.bool_]:
    """Which points no other point dominates.

    Equal points are all on the front or all off it.

    Args:
        points: Shape (n, m).

    Returns:
        A mask of shape (n,).
    """
    on_front = np.zeros(len(points), dtype=bool)
    whole = ~np.isnan(points).any(axis=1)
    on_front[whole] = moocore.is_nondominated(_finite(points[whole]), maximise=True, keep_weakly=True)
    return on_front


def layers(points: Points) -> npt.NDArray[np.int64]:
    """The non-dominated layer of each point: 0 is the front, 1 the front of the rest, and so on.

    Args:
        points: Shape (n, m).

    Returns:
        Shape (n,). Points with a NaN share one layer behind all others.
    """
    whole = ~np.isnan(points).any(axis=1)
    layer = np.zeros(len(points), dtype=np.int64)
    if whole.any():
        layer[whole] = moocore.pareto_rank(_finite(points[whole]), maximise=True)
        layer[~whole] = layer[whole].max() + 1
    return layer


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
    """The share of the box between reference and ideal point that the points dominate.

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


def crowding(points: Points) -> npt.NDArray[np.float64]:
    """The crowding distance of each point (Deb et al. 2002, NSGA-II): large where it is lonely, infinite at the ends.

    Equal points share their distance: each gets the gap to the nearest *different* values on either side. An objective
    that does not vary adds nothing: everyone would be at its end.

    Args:
        points: Shape (n, m), without NaN.
    """
    distance = np.zeros(len(points))
    for column in _normalized(points).T:
        values, inverse = np.unique(column, return_inverse=True)
        if len(values) == 1:
            continue
        padded = np.concatenate([[-np.inf], values, [np.inf]])
        distance += (padded[2:] - padded[:-2])[inverse]
    return distance


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


def epsilon_net(points: Points) -> npt.NDArray[np.int64]:
    """Ranks points so that any number of the first of them cover the whole set evenly (Schmucker et al. 2021).

    Greedy: the first is the best in the sum of the normalized objectives, each next the one farthest from those
    before it. What is equally far is ordered by its values, so that the order of the rows means nothing. Equal points
    share a rank.

    Args:
        points: Shape (n, m), without NaN.

    Returns:
        Ranks of shape (n,), 0 first.
    """
    unique, inverse = np.unique(points, axis=0, return_inverse=True)
    unit = _normalized(unique)
    rank = np.zeros(len(unique), dtype=np.int64)
    distance = np.full(len(unique), np.inf)
    # Rounded, so that a tie is a tie whatever scale the objectives had before.
    chosen = int(np.argmax(np.round(unit.sum(axis=1), 9)))
    for position in range(len(unique)):
        rank[chosen] = position
        distance = np.minimum(distance, np.round(np.linalg.norm(unit - unit[chosen], axis=1), 9))
        distance[chosen] = -1.0
        chosen = int(np.argmax(distance))
    ranks: npt.NDArray[np.int64] = rank[inverse.reshape(-1)]
    return ranks


def priority(points: Points, rule: Rule) -> npt.NDArray[np.int64]:
    """Ranks points for a contest: by non-dominated layer, then within a layer by a rule of diversity.

    The ranks are the points' own (not the order that sorts them), so permuting the points permutes the ranks. A
    dominated point never comes before its dominator; shifting or scaling an objective changes nothing; NaN comes
    last. Points that are equal, or that the rule cannot tell apart, share the rank of the last of them: whoever draws
    wins no place by luck.

    Args:
        points: Shape (n, m), finite or NaN.
        rule: ``epsilon_net``, ``crowding`` (lonely first) or ``hypervolume`` (largest loss first, against the worst
            values).

    Returns:
        Ranks of shape (n,), 0 the best.
    """
    layer = layers(points)
    within = np.zeros(len(points))
    finite = ~np.isnan(points).any(axis=1)
    for depth in np.unique(layer[finite]):
        rows = np.flatnonzero(finite & (layer == depth))
        if rule == "epsilon_net":
            within[rows] = epsilon_net(points[rows])
        elif rule == "crowding":
            within[rows] = -np.round(crowding(points[rows]), 9)
        else:
            unit = _normalized(points[rows])
            within[rows] = -np.round(contributions(unit, np.full(points.shape[1], -0.1)), 9)
    order = np.lexsort((within, layer))
    keys = np.stack([layer[order], within[order]], axis=1)
    is_last = np.append((keys[1:] != keys[:-1]).any(axis=1), True)
    last_of_group = np.flatnonzero(is_last)
    shared = last_of_group[np.searchsorted(last_of_group, np.arange(len(points)))]
    ranks = np.empty(len(points), dtype=np.int64)
    ranks[order] = shared
    return ranks


def last_rank(points: Points, rule: Rule) -> int:
    """The rank of the last point, ``priority(points, rule)[-1]``, without ranking those of other layers."""
    layer = layers(points)
    mine = points[layer == layer[-1]]
    return int(np.count_nonzero(layer < layer[-1]) + priority(mine, rule)[-1])


def _finite(points: Points) -> Points:
    """Points below the limit that are in the same order in each objective."""
    if (np.abs(points) < _LIMIT).all():
        return points
    ranks = [np.unique(column, return_inverse=True)[1] for column in points.T]
    return np.column_stack(ranks).astype(np.float64)


def _normalized(points: Points) -> Points:
    """Each objective stretched to [0, 1] over the points; one that does not vary becomes 0."""
    if len(points) == 0:
        return points
    low = points.min(axis=0)
    span = points.max(axis=0) - low
    unit: Points = (points - low) / np.where(span > 0, span, 1.0)
    return unit
