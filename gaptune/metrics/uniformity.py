"""How evenly embeddings spread over the sphere: two measures in use, named apart."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gaptune.metrics.embeddings import Embeddings

_BLOCK = 2048


def measure(embeddings: Embeddings) -> dict[str, float]:
    """The metrics of this group, for each image with its first caption."""
    images, paired = embeddings.images, embeddings.paired
    parts = {"": torch.cat([images, paired]), "_image": images, "_text": paired}
    return {
        f"uniformity/{name}{suffix}": measured(part)
        for name, measured in (("w2", w2), ("wang_isola", wang_isola))
        for suffix, part in parts.items()
    }


def w2(x: Tensor) -> float:
    """Minus the 2-Wasserstein distance between a Gaussian fitted to the features and N(0, I/d) (Fang et al. 2024).

    -sqrt(||μ||² + 1 + tr(S) - 2/sqrt(d) · tr(S^½)), with S the covariance (divided by n) in float64. At most 0;
    higher is better.

    Args:
        x: Shape (n, d), L2-normalized.

    Raises:
        ValueError: There are no features.
    """
    _check(x, least=1)
    x = x.double()
    mean = x.mean(0)
    centered = x - mean
    spectrum = torch.linalg.eigvalsh(centered.T @ centered / len(x)).clamp(min=0.0)
    squared = mean.square().sum() + 1.0 + spectrum.sum() - 2.0 / math.sqrt(x.shape[1]) * spectrum.sqrt().sum()
    return -math.sqrt(max(float(squared), 0.0))


def wang_isola(x: Tensor, t: float = 2.0) -> float:
    """Log mean exp(-t ||x_i - x_j||²) over all pairs i < j (Wang & Isola 2020); lower is better.

    In [-2t n/(n-1), 0], so for t = 2 and many features in [-4, 0].

    Args:
        x: Shape (n, d), L2-normalized, n at least 2.
        t: Sharpness of the Gaussian potential.

    Raises:
        ValueError: There is no pair.
    """
    _check(x, least=2)
    total = 0.0
    for start in range(0, len(x), _BLOCK):
        block = x[start : start + _BLOCK]
        cosine = (block @ x[start:].T).clamp(-1.0, 1.0)
        potential = (2.0 * t * (cosine - 1.0)).exp_()  # ||a - b||² = 2 - 2 a·b on the sphere
        total += float(potential.triu_(diagonal=1).sum(dtype=torch.float64))
    return math.log(total / (len(x) * (len(x) - 1) / 2))


def _check(x: Tensor, least: int) -> None:
    if x.ndim != 2 or len(x) < least:
        raise ValueError(f"expected features of shape (n, d) with n at least {least}, got {tuple(x.shape)}")
