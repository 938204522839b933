"""Which rows a probe holds out; apart, so that it is known without torch."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def held_out(n: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The rows that a probe holds out to choose its regularization by, a fifth of ``n``, and the rest."""
    order = np.random.default_rng(0).permutation(n)
    fraction = max(1, n // 5)
    return order[:fraction], order[fraction:]
