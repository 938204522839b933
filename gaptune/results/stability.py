"""The stability of a front: how often each candidate is on it over bootstrap draws of the seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from gaptune.ledger import SweepRecord
from gaptune.ledger.candidate import Candidate
from gaptune.pareto.dominance import front
from gaptune.results.unknown import Unknown, Why, too_few


def front_fractions(
    record: SweepRecord, compared: Sequence[Candidate], draws: int = 2000, seed: int = 0
) -> npt.NDArray[np.float64] | Unknown:
    """The fraction of bootstrap draws in which each candidate is on the front.

    A draw takes as many seeds as there are, with replacement, and the same ones for every candidate: the seeds are
    paired, so what they have in common does not blur the comparison. Objectives and constraints are their means.

    Args:
        record: Gives objectives and constraints.
        compared: Candidates with the same number of seeds, in the same order.
        draws: Number of bootstrap draws.
        seed: Random seed of the draws.

    Returns:
        Shape (number of candidates,), each in [0, 1]; or why they are not known: no candidates, or a single seed.

    Raises:
        ValueError: Candidates differ in their number of seeds.
    """
    counts = {len(candidate.trials) for candidate in compared}
    if not counts:
        return too_few(0, 1)
    if len(counts) > 1:
        raise ValueError(f"needs candidates of one number of seeds; got {sorted(counts)}")
    if counts == {1}:
        return Unknown(Why.ONE_SEED, "each candidate has a single seed, and it takes two")
    seeds = counts.pop()
    values = np.array([[record.values(trial) for trial in candidate.trials] for candidate in compared], dtype=float)
    limited = {
        bound.metric: np.array([[trial.last.get(bound.metric, math.nan) for trial in one.trials] for one in compared])
        for bound in record.constraints
    }
    on_front = np.zeros(len(compared))
    for chosen in np.random.default_rng(seed).integers(seeds, size=(draws, seeds)):
        points = record.objectives.maximized(values[:, chosen].mean(axis=1))
        for constraint in record.constraints:
            means = limited[constraint.metric][:, chosen].mean(axis=1)
            points[[not constraint.keeps(mean) for mean in means]] = np.nan  # NaN is never on the front
        on_front += front(points)
    return on_front / draws
