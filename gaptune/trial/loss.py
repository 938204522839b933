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


def clip_loss_of_part(x: Tensor, y: Tensor, beta: Tensor | float, others: tuple[Tensor, Tensor], first: int) -> Tensor:
    """What some pairs of a batch add to its ``clip_loss``: each image against all texts, each text against all images.

    Args:
        x: Image features of these pairs, shape (m, d).
        y: Text features of these pairs, shape (m, d).
        beta: Logit scale.
        others: Image and text features of the whole batch, shape (n, d).
        first: Row of the first of these pairs in the batch.

    Returns:
        A scalar; the sum over all parts of the batch is its loss in nats.
    """
    labels = torch.arange(first, first + len(x), device=x.device)
    images = F.cross_entropy(beta * x @ others[1].T, labels, reduction="sum")
    texts = F.cross_entropy(beta * y @ others[0].T, labels, reduction="sum")
    return (images + texts) / (2 * len(others[0]))
