"""An order of points within and across non-dominated layers."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from gaptune.pareto.dominance import Points, layers
from gaptune.pareto.hypervolume import contributions

Rule = Literal["epsilon_net", "crowding", "hypervolume"]


def crowding(points: Points) -> npt.NDArray[np.float64]:
    """The crowding distance of each point (Deb et al. 2002, NSGA-II): large far from others, infinite at the ends.

    Equal points share their distance: each gets the gap to the nearest *different* values on either side. An objective
    that does not vary adds nothing.

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
    """Ranks points by non-dominated layer, and within a layer by a rule of diversity.

    The ranks are the points' own (not the order that sorts them), so permuting the points permutes the ranks. A
    dominated point never comes before its dominator; shifting or scaling an objective changes nothing; NaN comes
    last. Points that are equal, or that the rule cannot distinguish, share the rank of the last of them, so that
    a tie is never an advantage.

    Args:
        points: Shape (n, m), finite or NaN.
        rule: ``epsilon_net``, ``crowding`` (largest distance first) or ``hypervolume`` (largest loss first, against the
            worst values).

    Returns:
        Ranks of shape (n,), 0 the best.
    """
    layer = layers(points)
    within = np.zeros(len(points))
    finite = ~np.isnan(points).any(axis=1)
    for depth in np.unique(layer[finite]):
        rows = np.flatnonzero(finite & (layer == depth))
        within[rows] = _keys(points[rows], rule)
    order = np.lexsort((within, layer))
    keys = np.stack([layer[order], within[order]], axis=1)
    is_last = np.append((keys[1:] != keys[:-1]).any(axis=1), True)
    last_of_group = np.flatnonzero(is_last)
    shared = last_of_group[np.searchsorted(last_of_group, np.arange(len(points)))]
    ranks = np.empty(len(points), dtype=np.int64)
    ranks[order] = shared
    return ranks


def last_in_layer(points: Points, rule: Rule) -> int:
    """The rank of the last of some points none of which dominates another: ``priority(points, rule)[-1]``."""
    keys = _keys(points, rule)
    return int(np.count_nonzero(keys <= keys[-1])) - 1


def _keys(points: Points, rule: Rule) -> npt.NDArray[np.float64]:
    """The order of the points of a layer: smaller is better, and points that are equal or alike have the same key."""
    if rule == "epsilon_net":
        return epsilon_net(points).astype(np.float64)
    if rule == "crowding":
        return -np.round(crowding(points), 9)
    return -np.round(contributions(_normalized(points), np.full(points.shape[1], -0.1)), 9)


def _normalized(points: Points) -> Points:
    """Each objective stretched to [0, 1] over the points; one that does not vary becomes 0."""
    if len(points) == 0:
        return points
    low = points.min(axis=0)
    span = points.max(axis=0) - low
    unit: Points = (points - low) / np.where(span > 0, span, 1.0)
    return unit
