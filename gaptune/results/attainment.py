"""Empirical attainment surfaces: what some fraction of repetitions attain."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gaptune.errors import UserError
from gaptune.ledger import SweepRecord
from gaptune.pareto.hypervolume import attained
from gaptune.results.front import candidates, summarize


@dataclass(frozen=True)
class Band:
    """A surface of the empirical attainment function.

    Attributes:
        fraction: At least this fraction of the repeats attain it; 0.5 is the median front.
        repeats: How many repeats there are.
        points: Its corners in the units of the two objectives, ascending from the worst first objective to the best,
            of shape (k, 2).
    """

    fraction: float
    repeats: int
    points: npt.NDArray[np.float64]


def attainment(records: Sequence[SweepRecord], fractions: Sequence[float] = (0.25, 0.5, 0.75)) -> list[Band]:
    """What some fractions of repeats attain (Grunert da Fonseca et al. 2001).

    Args:
        records: Several sweeps as repetitions of each other, or one sweep with several seeds per candidate, whose
            seeds are the repetitions.
        fractions: Fractions of the repetitions, each above 0 and at most 1.

    Returns:
        A band for each fraction.

    Raises:
        UserError: There are not two objectives, fewer than two repeats, or a sweep without a front.
    """
    objectives = records[0].objectives
    if len(objectives) != 2:
        raise UserError(f"attainment needs two objectives, not {len(objectives)}; choose with --objective")
    for record in records:
        summary = summarize(record)
        if not summary.front:
            raise UserError(f"{record.name!r} has no front to draw: {summary.unknown}")
    sets = [objectives.maximized(values) for values in _repeats(records)]
    if len(sets) < 2:
        raise UserError(
            f"attainment needs repeats, and {records[0].name!r} is one sweep with one seed: give several sweeps, or "
            "one with `search: {seeds: 2}` or more"
        )
    return [
        Band(fraction, len(sets), objectives.maximized(attained(sets, max(1, math.ceil(fraction * len(sets))))))
        for fraction in fractions
    ]


def _repeats(records: Sequence[SweepRecord]) -> list[list[list[float]]]:
    if len(records) > 1:
        return [[one.values for one in candidates(record) if one.feasible] for record in records]
    (record,) = records
    found = [one.trials for one in candidates(record) if one.feasible]
    return [[record.values(trial) for trial in trials] for trials in zip(*found, strict=True)]
