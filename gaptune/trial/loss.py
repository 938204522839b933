"""CLIP's loss, and the error for values that are not finite."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


class NonFinite(ArithmeticError):  # noqa: N818  (what it says, not that it is an error, matters)
    """A loss, feature or metric is NaN or infinite; weights are never updated with such a loss."""


def clip_loss(x: Tensor, y: Tensor, beta: Tensor | float) -> Tensor:
    """Symmetric cross entropy over a batch of matched pairs (Radford et al. 2021, figure 3).

    Args:
        x: Image features, shape (n, d).
        y: Text features, shape (n, d).
        beta: Logit scale.

    Returns:
        The loss in nats, a scalar.
    """
    logits = beta * x @ y.T
    labels = torch.arange(len(x), device=x.device)
    return (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2
