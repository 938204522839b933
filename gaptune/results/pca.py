"""Principal components."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Components:
    """The first principal components of some points.

    Attributes:
        mean: Mean of the points, shape (d,).
        directions: Unit vectors, shape (k, d).
        explained: Fraction of the variance along each, shape (k,); NaN if all points are equal.
    """

    mean: Values
    directions: Values
    explained: Values

    def project(self, points: Values) -> Values:
        """Coordinates of points, shape (n, k) for points of shape (n, d)."""
        return np.asarray((points - self.mean) @ self.directions.T)


def principal_components(points: Values, count: int = 2) -> Components:
    """The first principal components.

    Args:
        points: Shape (n, d).
        count: Number of components; there are at most min(n, d).
    """
    mean = points.mean(axis=0)
    _, spectrum, directions = np.linalg.svd(points - mean, full_matrices=False)
    variance = spectrum**2
    with np.errstate(invalid="ignore"):
        explained = variance[:count] / variance.sum()
    return Components(mean, directions[:count], explained)
