"""Which points dominate which: the Pareto front and the layers behind it."""

from __future__ import annotations

import moocore
import numpy as np
import numpy.typing as npt

Points = npt.NDArray[np.float64]


_LIMIT = np.finfo(np.float64).max
"""What moocore's C code keeps for itself: a coordinate as large as this or infinite ends the process (0.3.2)."""


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


def _finite(points: Points) -> Points:
    """Points below the limit that are in the same order in each objective."""
    if (np.abs(points) < _LIMIT).all():
        return points
    ranks = [np.unique(column, return_inverse=True)[1] for column in points.T]
    return np.column_stack(ranks).astype(np.float64)
