"""When two cosines count as equal."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def rounding(features: Tensor) -> float:
    """The most by which the cosines of equal features may differ.

    A matrix product may sum up equal rows in different orders (which, depends on the processor), so equal features get
    cosines that are equal only to within rounding: less than sqrt(d) last places apart, each sum being at most 1. All
    metrics that compare cosines use this tolerance and count ties as errors. Otherwise the results of collapsed
    features would depend on the order of the sums.

    Args:
        features: Shape (n, d), L2-normalized.
    """
    return math.sqrt(features.shape[1]) * torch.finfo(features.dtype).eps
