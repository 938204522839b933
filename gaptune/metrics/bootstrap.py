"""How sure a score is."""

from __future__ import annotations

import numpy as np
from torch import Tensor

_RESAMPLES = 1000


def bootstrap_interval(values: Tensor, *, level: float = 0.95, seed: int = 0) -> tuple[float, float]:
    """Percentile bootstrap interval of a mean over examples (Efron 1979).

    It says how far the score would move with other test examples, not with another training seed.

    Args:
        values: Shape (n,): one value per example, whose mean is the score.
        level: Share of the resampled means inside.
        seed: Of the resampling.

    Returns:
        Lower and upper end.

    Raises:
        ValueError: There are no values.
    """
    sample = values.double().cpu().numpy()
    if sample.ndim != 1 or not len(sample):
        raise ValueError(f"expected values (n,), got {sample.shape}")
    # Few distinct values (right or wrong): how often each is drawn is all that counts, and takes no n-row draws.
    distinct, counts = np.unique(sample, return_counts=True)
    drawn = np.random.default_rng(seed).multinomial(len(sample), counts / len(sample), size=_RESAMPLES)
    means = drawn @ distinct / len(sample)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
