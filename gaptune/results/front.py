"""The Pareto front of a sweep and how good it is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gaptune.ledger import State, SweepRecord, TrialRecord
from gaptune.pareto import front, normalized_hypervolume, oriented


@dataclass(frozen=True)
class Summary:
    """What a sweep has come to.

    Attributes:
        front: The trials that no other completed trial beats in every objective, best first objective first.
        hypervolume: Share of the box between reference and ideal point that the front dominates, 0 to 1.
        counts: Number of trials by state, in the order of ``State``, without zeros.
    """

    front: list[TrialRecord]
    hypervolume: float
    counts: dict[State, int]


def summarize(record: SweepRecord) -> Summary:
    """Works out the front and the hypervolume of a sweep's completed trials.

    The hypervolume's reference and ideal point are those of the sweep's YAML, never taken from the trials.

    Args:
        record: The sweep, finished or not.
    """
    trials = [trial for trial in record.trials.values() if trial.state is State.COMPLETE]
    objectives = record.objectives
    maximize = [objective["maximize"] for objective in objectives]
    values = np.array([record.values(trial) for trial in trials], dtype=float).reshape(len(trials), len(objectives))
    points = oriented(values, maximize)
    corner = oriented(np.array([[o["reference"], o["ideal"]] for o in objectives], dtype=float).T, maximize)
    members = np.flatnonzero(front(points))
    order = sorted(members, key=lambda row: (-points[row, 0], trials[row].number))
    counts = {state: record.count(state) for state in State}
    return Summary(
        front=[trials[row] for row in order],
        hypervolume=normalized_hypervolume(points, corner[0], corner[1]),
        counts={state: count for state, count in counts.items() if count},
    )
