"""The mathematics of Pareto fronts, in numpy alone.

Points are float arrays of shape (n, m): n trials, m objectives, *larger is better in every column* (``oriented``
flips what is minimized). A point dominates another when it is at least as good in every objective and better in one.
A point with a NaN dominates nothing and is never on a front.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

Points = npt.NDArray[np.float64]
Rule = Literal["epsilon_net", "crowding", "hypervolume"]


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
    rows = np.flatnonzero(~np.isnan(points).any(axis=1))
    if len(rows) == 0:
        return on_front
    unique, inverse = np.unique(points[rows], axis=0, return_inverse=True)  # ascending by the first column
    unique, last = unique[::-1], len(unique) - 1
    kept = _front_of_two(unique) if unique.shape[1] == 2 else _front_of_many(unique)
    on_front[rows] = kept[last - inverse.reshape(-1)]
    return on_front


def _front_of_two(points: Points) -> npt.NDArray[np.bool_]:
    """For distinct points in descending order: on the front is what beats every earlier one in the second objective."""
    best_before = np.concatenate([[-np.inf], np.maximum.accumulate(points[:, 1])[:-1]])
    mask: npt.NDArray[np.bool_] = points[:, 1] > best_before
    mask[0] = True  # also when its second objective is minus infinity
    return mask


def _front_of_many(points: Points) -> npt.NDArray[np.bool_]:
    """For distinct points in descending order, so that no point is dominated by a later one."""
    kept = np.zeros(len(points), dtype=bool)
    alive = np.arange(len(points))
    while len(alive):
        head, alive = alive[0], alive[1:]
        kept[head] = True
        alive = alive[(points[alive] > points[head]).any(axis=1)]
    return kept


def layers(points: Points) -> npt.NDArray[np.int64]:
    """The non-dominated layer of each point: 0 is the front, 1 the front of the rest, and so on.

    Args:
        points: Shape (n, m).

    Returns:
        Shape (n,). Points with a NaN share one layer behind all others.
    """
    layer = np.full(len(points), -1, dtype=np.int64)
    rest = np.flatnonzero(~np.isnan(points).any(axis=1))
    if points.shape[1] == 2:
        layer[rest] = _layers_of_two(points[rest])
        rest = rest[:0]
    depth = int(layer.max(initial=-1)) + 1
    while len(rest):
        mask = front(points[rest])
        layer[rest[mask]] = depth
        rest = rest[~mask]
        depth += 1
    layer[layer < 0] = depth
    return layer


def _layers_of_two(points: Points) -> npt.NDArray[np.int64]:
    """Two objectives in one sweep; peeling off fronts takes n sorts where each point dominates the next."""
    best_first = np.lexsort((-points[:, 1], -points[:, 0]))
    layer = np.empty(len(points), dtype=np.int64)
    tops: list[float] = []  # minus the best second objective of each layer so far, which ascends
    before: tuple[float, float] | None = None
    depth = 0
    for row, (first, second) in zip(best_first.tolist(), points[best_first].tolist(), strict=True):
        if (first, second) != before:  # equal points share their layer
            depth = bisect_right(tops, -second)
            tops[depth : depth + 1] = [-second]
            before = first, second
        layer[row] = depth
    return layer


def hypervolume(points: Points, reference: npt.ArrayLike) -> float:
    """The volume that is dominated by the points and dominates the reference point, exactly.

    Args:
        points: Shape (n, m).
        reference: Shape (m,): the worst point that still counts. Points that are not better in every objective add
            nothing.
    """
    corner = np.asarray(reference, dtype=np.float64)
    better = points[(points > corner).all(axis=1)] - corner
    return _volume(np.unique(better[front(better)], axis=0)) if len(better) else 0.0


def _volume(points: Points) -> float:
    """Volume between the origin and mutually non-dominated points above it, by slices along the first objective."""
    if points.shape[1] == 1:
        return float(points.max())
    points = points[np.argsort(-points[:, 0], kind="stable")]
    if points.shape[1] == 2:
        heights = np.maximum.accumulate(points[:, 1])
        widths = points[:, 0] - np.append(points[1:, 0], 0.0)
        return float(widths @ heights)
    total = 0.0
    for count in range(1, len(points) + 1):
        below = points[count, 0] if count < len(points) else 0.0
        width = points[count - 1, 0] - below
        if width > 0:
            slice_ = points[:count, 1:]
            total += width * _volume(slice_[front(slice_)])
    return float(total)


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
        sets: The points of each repeat, each of shape (n, 2); points with a NaN are passed over.
        count: From 1 to the number of repeats.

    Returns:
        The corners of the surface, non-dominated, ascending in the first objective, of shape (k, 2).
    """
    known = [points[~np.isnan(points).any(axis=1)] for points in sets]
    levels = np.unique(np.concatenate([points[:, 0] for points in known]))
    heights = np.full((len(known), len(levels)), -np.inf)  # the best second objective at each level of the first
    for row, points in zip(heights, known, strict=True):
        np.maximum.at(row, np.searchsorted(levels, points[:, 0]), points[:, 1])
    heights = np.maximum.accumulate(heights[:, ::-1], axis=1)[:, ::-1]
    surface = np.column_stack([levels, np.sort(heights, axis=0)[len(known) - count]])
    surface = surface[np.isfinite(surface[:, 1])]
    corners: Points = surface[front(surface)]
    return corners


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
    """The hypervolume that would be lost without each point; nothing for points that stand there twice.

    A point's own volume less what the others dominate of it (the exclusive hypervolume of While et al. 2012, WFG):
    cut down to the point, most others are dominated, which makes this far quicker than two whole hypervolumes.

    Args:
        points: Shape (n, m), without NaN.
        reference: Shape (m,).
    """
    lost = np.zeros(len(points))
    for row, point in enumerate(points):
        shared = np.minimum(np.delete(points, row, axis=0), point)
        lost[row] = hypervolume(point[None], reference) - hypervolume(shared, reference)
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


def _normalized(points: Points) -> Points:
    """Each objective stretched to [0, 1] over the points; one that does not vary becomes 0."""
    if len(points) == 0:
        return points
    low = points.min(axis=0)
    span = points.max(axis=0) - low
    unit: Points = (points - low) / np.where(span > 0, span, 1.0)
    return unit
