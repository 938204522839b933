"""Accuracy on pairs of images that look alike to CLIP but differ in their captions."""

from __future__ import annotations

import torch
from torch import Tensor

from gaptune.metrics.ties import rounding


def pair_accuracy(images: Tensor, texts: Tensor) -> Tensor:
    """Which pairs are distinguished, as MMVP-VLM counts them (Tong et al. 2024, arXiv 2401.06209).

    Rows 2k and 2k + 1 are the images and the captions of pair k. A pair is right when each of its two captions is
    nearer to its own image than to the other one. This is what the benchmark's published code counts: captions choose
    among images; that images choose their captions too is not asked for. A tie, to within rounding, counts as wrong.

    Args:
        images: Shape (2 · pairs, d), L2-normalized.
        texts: Shape (2 · pairs, d), L2-normalized.

    Returns:
        Shape (pairs,), float64 on the CPU: 1 where the pair is right.

    Raises:
        ValueError: The shapes do not match, or the number of rows is odd.
    """
    if images.ndim != 2 or images.shape != texts.shape or len(images) % 2:
        shapes = tuple(images.shape), tuple(texts.shape)
        raise ValueError(f"expected images and texts of shape (2 · pairs, d), got {shapes}")
    x, y = images.reshape(-1, 2, images.shape[1]), texts.reshape(-1, 2, texts.shape[1])
    cosine = torch.einsum("pcd,pid->pci", y, x)  # of each pair: caption c with image i
    first, second = cosine[:, 0], cosine[:, 1]
    tie = rounding(images)
    return ((first[:, 0] - first[:, 1] > tie) & (second[:, 1] - second[:, 0] > tie)).double().cpu()
