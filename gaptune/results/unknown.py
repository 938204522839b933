"""Why a value is unknown: decided once, and shown alike in tables, reports, plots, MLflow and Python.

A function with one result returns it, or an ``Unknown`` in its place. In a dataclass an unknown value is None, and the
field ``unknown`` has the reason; so ``asdict`` gives JSON a null with its reason. A list that lacks entries has their
reasons in its own ``unknown``. Nothing in ``gaptune.results`` returns NaN for a value of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

import numpy as np
import numpy.typing as npt

from gaptune.metrics.table import ROUNDING
from gaptune.text.words import counted


class Why(StrEnum):
    """The kinds of reason."""

    NONE_COMPLETE = "none_complete"
    """No candidate has been trained to the end."""
    NONE_FEASIBLE = "none_feasible"
    """Every complete candidate breaks a constraint."""
    NOT_MEASURED = "not_measured"
    """No candidate has the metric."""
    NO_BOX = "no_box"
    """An objective has no reference and ideal point."""
    TOO_FEW = "too_few"
    """There are fewer than it takes."""
    ONE_SEED = "one_seed"
    """A single seed does not show the effect of chance."""
    CONSTANT = "constant"
    """A metric is the same for all."""
    NOTHING_VARIED = "nothing_varied"
    """No parameter has two values."""
    NO_DIFFERENCE = "no_difference"
    """No parameter separates good candidates from bad ones."""
    ALL_EQUAL = "all_equal"
    """The members of a front are equal in all objectives."""
    NO_BEND = "no_bend"
    """No member of a front lies beyond the line or plane through its ends."""
    NO_ENDS = "no_ends"
    """The ends of a front span no such line or plane."""


@dataclass(frozen=True)
class Unknown:
    """A value that is unknown.

    Attributes:
        why: The kind of reason, for programs.
        text: The reason as a clause, such as ``only 3 candidates are complete, and it takes 8``.
    """

    why: Why
    text: str

    def __str__(self) -> str:
        """The reason."""
        return self.text

    def __bool__(self) -> Literal[False]:
        """False: ``knee(record, members) or members[0]`` is the knee where there is one."""
        return False


def too_few(count: int, needed: int, what: str = "complete") -> Unknown:
    """The reason where there are fewer candidates than it takes.

    Args:
        count: How many there are.
        needed: How many it takes.
        what: What is true of them.
    """
    if count == 0:
        return Unknown(Why.NONE_COMPLETE if what == "complete" else Why.NOT_MEASURED, f"no candidate is {what}")
    have = counted(count, "candidate is", "candidates are")
    return Unknown(Why.TOO_FEW, f"only {have} {what}, and it takes {needed}")


def varies(values: npt.ArrayLike) -> bool:
    """Whether values differ by more than float32's rounding of them; those that are not finite are left out."""
    known = np.asarray(values, dtype=np.float64)
    known = known[np.isfinite(known)]
    return bool(len(known)) and bool(np.ptp(known) > ROUNDING * np.abs(known).max())
