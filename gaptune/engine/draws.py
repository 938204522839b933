"""Sets of knobs drawn at random, without a study."""

from __future__ import annotations

import numpy as np


class Draws:
    """Answers a space's questions at random.

    Args:
        seed: Decides the answers.
    """

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """A real number in [low, high]."""
        return float(np.exp(self._rng.uniform(np.log(low), np.log(high))) if log else self._rng.uniform(low, high))

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        """One of low, low + step, …, high."""
        if log:
            return min(high, int(np.exp(self._rng.uniform(np.log(low), np.log(high + 1)))))
        return int(low + step * self._rng.integers(0, (high - low) // step + 1))

    def suggest_categorical(self, name: str, choices: object) -> object:
        """One of the choices."""
        assert isinstance(choices, tuple | list)
        return choices[int(self._rng.integers(0, len(choices)))]
