"""Exact fractions of decimal numbers: 0.29 of 100 steps is 29, but 28.999999999999996 in floats."""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache


@lru_cache(1024)
def exact(number: float) -> Fraction:
    """The simple fraction that a float represents: 3/10 for 0.3, 1/9 for 0.1111111111111111.

    Args:
        number: A finite number.

    Returns:
        A fraction that equals the number as a float. Its denominator is at most the smallest power of ten that allows
        one.
    """
    whole, bound = Fraction(number), 1
    while float(found := whole.limit_denominator(bound)) != number:
        bound *= 10
    return found
