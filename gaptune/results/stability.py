"""How far a front is to be trusted: which candidates stay on it when the seeds are drawn again."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from gaptune.ledger import SweepRecord
from gaptune.pareto import front, oriented
from gaptune.results.front import Candidate, keeps


def front_shares(
    record: SweepRecord, compared: Sequence[Candidate], draws: int = 2000, seed: int = 0
) -> npt.NDArray[np.float64]:
    """The share of bootstrap draws in which each candidate is on the front.

    A draw takes as many seeds as there are, with replacement, and the same ones for every candidate: the seeds are
    paired, so what they have in common does not blur the comparison. Objectives and constraints are their means.

    Args:
        record: Gives objectives and constraints.
        compared: Candidates with the same number of seeds, two or more, in the same order.
        draws: How many.
        seed: Of the draws.

    Returns:
        Shape (number of candidates,), each in [0, 1].

    Raises:
        ValueError: Candidates differ in their number of seeds, or have one.
    """
    counts = {len(candidate.trials) for candidate in compared}
    if len(counts) != 1 or min(counts) < 2:
        raise ValueError(f"needs candidates of one number of seeds, two or more; got {sorted(counts)}")
    seeds = counts.pop()
    maximize = [objective["maximize"] for objective in record.objectives]
    values = np.array([[record.values(trial) for trial in candidate.trials] for candidate in compared], dtype=float)
    bounded = [str(constraint["metric"]) for constraint in record.constraints]
    limited = {
        metric: np.array([[trial.last.get(metric, math.nan) for trial in one.trials] for one in compared])
        for metric in bounded
    }
    on_front = np.zeros(len(compared))
    for chosen in np.random.default_rng(seed).integers(seeds, size=(draws, seeds)):
        points = oriented(values[:, chosen].mean(axis=1), maximize)
        for constraint in record.constraints:
            means = limited[str(constraint["metric"])][:, chosen].mean(axis=1)
            points[[not keeps(mean, constraint) for mean in means]] = np.nan  # NaN is never on the front
        on_front += front(points)
    return on_front / draws
