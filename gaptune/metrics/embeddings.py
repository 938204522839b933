"""All metrics of paired embeddings, group by group."""

from __future__ import annotations

from importlib import import_module
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from gaptune.metrics.table import EMBEDDING_GROUPS


class Embeddings(NamedTuple):
    """Embeddings of images and their captions.

    Attributes:
        images: Shape (n, d), L2-normalized.
        texts: Shape (m, d), L2-normalized.
        owner: Shape (m,): row of the image to which each text belongs; every image has at least one.
        paired: The first text of each image, shape (n, d).
    """

    images: Tensor
    texts: Tensor
    owner: Tensor
    paired: Tensor


def embedding_metrics(images: Tensor, texts: Tensor, owner: Tensor) -> dict[str, float]:
    """The metrics of all groups in ``EMBEDDING_GROUPS``, each by ``measure`` of the module of its name.

    Args:
        images: Shape (n, d), L2-normalized.
        texts: Shape (m, d), L2-normalized.
        owner: Shape (m,): row of the image to which each text belongs; every image has at least one.

    Raises:
        ValueError: The shapes do not match, or a feature is not finite.
    """
    if not (bool(torch.isfinite(images).all()) and bool(torch.isfinite(texts).all())):
        raise ValueError("features are not finite")
    check_owner(images, texts, owner)
    rows = torch.arange(len(texts), device=owner.device)
    first = torch.full_like(owner[: len(images)], len(texts)).scatter_reduce(0, owner, rows, "amin")
    embeddings = Embeddings(images, texts, owner, texts[first])
    metrics: dict[str, float] = {}
    for group in EMBEDDING_GROUPS:
        metrics |= import_module(f"gaptune.metrics.{group}").measure(embeddings)
    return metrics


def centered(embeddings: Tensor) -> Tensor:
    """Embeddings of a modality without their mean, L2-normalized again; shape (n, d)."""
    return F.normalize(embeddings - embeddings.mean(dim=0), dim=1)


def check_owner(images: Tensor, texts: Tensor, owner: Tensor) -> None:
    """Checks that images and texts fit each other.

    Raises:
        ValueError: The shapes do not match, or an image has no text, or a text no image.
    """
    fits = images.ndim == texts.ndim == 2 and images.shape[1] == texts.shape[1] and owner.shape == texts.shape[:1]
    if not fits or len(images) == 0:
        shapes = tuple(images.shape), tuple(texts.shape), tuple(owner.shape)
        raise ValueError(f"expected images (n, d), texts (m, d) and owner (m,), got {shapes}")
    every = torch.arange(len(images), device=owner.device)
    if not bool(torch.isin(every, owner).all() and torch.isin(owner, every).all()):
        raise ValueError("an image has no text, or a text no image")
