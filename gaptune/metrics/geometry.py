"""How the two kinds of embeddings lie to each other: gap, alignment, margin, mismatched pairs.

Everything takes matched pairs: ``x`` and ``y`` of shape (n, d), L2-normalized, row i of one belonging to row i of the
other.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gaptune.metrics.embeddings import Embeddings
from gaptune.metrics.ties import rounding

_BLOCK = 4096


def measure(embeddings: Embeddings) -> dict[str, float]:
    """The metrics of this group, for each image with its first caption."""
    x, y = embeddings.images, embeddings.paired
    margin, mismatched = margin_and_mismatched(x, y)
    return {
        "geometry/gap": gap(x, y),
        "geometry/alignment": alignment(x, y),
        "geometry/margin": margin,
        "geometry/mismatched": mismatched,
    }


def gap(x: Tensor, y: Tensor) -> float:
    """The modality gap Δ = ||mean(x) - mean(y)||₂, in [0, 2] (Yaras et al. 2024; Liang et al. 2022).

    Measured on few pairs it is biased upwards by sampling: use 512 or more.

    Raises:
        ValueError: The shapes do not match.
    """
    _check_pairs(x, y)
    return float((x.double().mean(0) - y.double().mean(0)).norm())


def alignment(x: Tensor, y: Tensor) -> float:
    """Mean squared distance of matched pairs, in [0, 4] (Wang & Isola 2020, with α = 2).

    Raises:
        ValueError: The shapes do not match.
    """
    _check_pairs(x, y)
    return float((x.double() - y.double()).square().sum(1).mean())


def margin_and_mismatched(x: Tensor, y: Tensor) -> tuple[float, float]:
    """How clearly each point's match is the best one.

    Args:
        x: Shape (n, d), n at least 2.
        y: Shape (n, d).

    Returns:
        The cross-modal margin (cosine of the match minus the best other cosine, mean over pairs and both directions,
        in [-2, 2]), and the fraction of points, over both directions, whose best match is a different point. A tie, to
        within rounding, has margin 0 and counts as mismatched.

    Raises:
        ValueError: The shapes do not match, or there is a single pair, which has no other.
    """
    _check_pairs(x, y)
    if len(x) < 2:
        raise ValueError("a margin needs at least two pairs")
    margins, mismatched = 0.0, 0
    for one, other in ((x, y), (y, x)):
        for rows in torch.split(torch.arange(len(one), device=one.device), _BLOCK):
            cosine, own = one[rows] @ other.T, rows[:, None]
            match = cosine.gather(1, own)
            best_other = cosine.scatter_(1, own, -float("inf")).max(dim=1, keepdim=True).values
            ahead = (match - best_other).double()
            ahead[ahead.abs() <= rounding(x)] = 0.0
            margins += float(ahead.sum())
            mismatched += int((ahead <= 0).sum())
    return margins / (2 * len(x)), mismatched / (2 * len(x))


def _check_pairs(x: Tensor, y: Tensor) -> None:
    if x.ndim != 2 or x.shape != y.shape or len(x) == 0:
        raise ValueError(f"expected matched pairs of one shape (n, d), got {tuple(x.shape)} and {tuple(y.shape)}")
