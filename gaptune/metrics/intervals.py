"""Confidence intervals of metrics."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor

_DRAWS = 4000
_TOO_NARROW = 1.5
"""Images by which a class counts less, so that intervals of means over classes hold what they should (simulated)."""


@dataclass(frozen=True)
class Outcomes:
    """What each example of a test counts, and what is needed to say how sure their mean is.

    Attributes:
        right: Shape (n,), float64 on the CPU: 1 where the example is right, 0 where it is wrong.
        images: Shape (n,): the image to which each example belongs, where several belong to one, as captions do. They
            were drawn together. None: each is one of its own.
        classes: Shape (n,): class of each example, where the metric is the mean of the classes' means. None: the metric
            is the mean over the examples.
    """

    right: Tensor
    images: Tensor | None = None
    classes: Tensor | None = None

    def __len__(self) -> int:
        return len(self.right)

    def mean(self) -> float:
        """The value of the metric."""
        if self.classes is None:
            return float(self.right.double().mean())
        _, labels = np.unique(self.classes.cpu().numpy(), return_inverse=True)
        right = np.bincount(labels, weights=self.right.double().cpu().numpy())
        return float((right / np.bincount(labels)).mean())


def bootstrap_interval(outcomes: Outcomes | Tensor, *, level: float = 0.95, seed: int = 0) -> tuple[float, float]:
    """Bayesian bootstrap interval of a metric (Rubin 1981): how far it would move with other test images.

    Images are given random weights and the metric is computed again. The weights are of images, never of captions,
    and are drawn class by class where the metric is a mean over classes. To the images come two of half the weight, one
    all wrong and one all right (Jeffreys' prior; shared out to the classes). They make the interval of a plain fraction
    that of Jeffreys, Beta(right + 1/2, wrong + 1/2), which the percentile bootstrap nears with many images; with few
    it is still wide enough, also where all are right. ``benchmarks/coverage.py`` measures its coverage.

    The interval says nothing of other training seeds.

    Args:
        outcomes: Value of each example; a tensor (n,) for examples that are images of their own.
        level: Fraction of the resampled values inside.
        seed: Random seed of the resampling.

    Returns:
        Lower and upper end, between 0 and 1, with the value between them.

    Raises:
        ValueError: There are no values, or one is not between 0 and 1.
    """
    if isinstance(outcomes, Tensor):
        outcomes = Outcomes(outcomes)
    right = outcomes.right.double().cpu().numpy()
    if right.ndim != 1 or not len(right) or not (right.min() >= 0 and right.max() <= 1):
        raise ValueError(f"expected values (n,) between 0 and 1, got {right.shape}")
    rng = np.random.default_rng(seed)
    rows = np.arange(len(right))
    images = rows if outcomes.images is None else outcomes.images.cpu().numpy()
    parts = [rows]
    if outcomes.classes is not None:
        _, labels, counts = np.unique(outcomes.classes.cpu().numpy(), return_inverse=True, return_counts=True)
        parts = np.split(np.argsort(labels, kind="stable"), np.cumsum(counts)[:-1])
    drawn = np.mean([_resampled(right[part], images[part], len(parts), rng) for part in parts], axis=0)
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    value = outcomes.mean()
    # The prior keeps what is resampled off 0 and 1, and off a value near them.
    return (0.0 if value == 0 else min(float(low), value)), (1.0 if value == 1 else max(float(high), value))


def _resampled(
    right: npt.NDArray[np.float64], images: npt.NDArray[np.int64], classes: int, rng: np.random.Generator
) -> npt.NDArray[np.float64]:
    """Weighted means of a class's examples, shape (draws,), by random weights of their images."""
    _, image = np.unique(images, return_inverse=True)
    sums = np.stack([np.bincount(image, weights=right), np.bincount(image)], axis=1)
    # Images with equal counts get one weight in common, from a gamma distribution with their number: fewer draws.
    kinds, counts = np.unique(sums, axis=0, return_counts=True)
    n = len(sums)
    # A small sample varies less than its source. The prior of a single fraction makes up for it.
    shapes = counts * (max(n - _TOO_NARROW, 0.5) / n if classes > 1 else 1.0)
    size = sums[:, 1].mean()
    kinds = np.concatenate([kinds, [[0.0, size], [size, size]]])
    weights = rng.standard_gamma(np.concatenate([shapes, [0.5 / classes] * 2]), size=(_DRAWS, len(kinds)))
    drawn: npt.NDArray[np.float64] = (weights @ kinds[:, 0]) / (weights @ kinds[:, 1])
    return drawn
