"""When two cosines count as equal."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def rounding(features: Tensor) -> float:
    """The most by which the cosines of equal features may differ.

    A matrix product may sum up equal rows in different orders (which, depends on the processor), so equal features get
    cosines that are equal only to within rounding: less than sqrt(d) last places apart, each sum being at most 1. All
    scores that compare cosines use it, and count what is as near as this against the model: features that have
    collapsed score nothing, instead of whatever the order of the sums makes of them.

    Args:
        features: Shape (n, d), L2-normalized.
    """
    return math.sqrt(features.shape[1]) * torch.finfo(features.dtype).eps
