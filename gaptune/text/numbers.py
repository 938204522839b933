"""Numbers as people mean them: 0.29 of 100 steps are 29, where floats make 28.999999999999996 of it."""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache


@lru_cache(1024)
def exact(number: float) -> Fraction:
    """A simple fraction that a float stands for: 3/10 for 0.3, 1/9 for 0.1111111111111111.

    Args:
        number: A finite number.

    Returns:
        A fraction whose float is the number, its denominator below the smallest power of ten for which there is one.
    """
    whole, bound = Fraction(number), 1
    while float(found := whole.limit_denominator(bound)) != number:
        bound *= 10
    return found
