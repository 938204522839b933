"""The hypervolume of a sweep's front over the search."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gaptune.ledger import SweepRecord
from gaptune.pareto.hypervolume import normalized_hypervolume
from gaptune.results.front import candidates, no_box


@dataclass(frozen=True)
class Step:
    """The front after a candidate was completed.

    Attributes:
        trials: Candidates completed so far.
        epochs: Epochs that all trials had been trained by then, stopped and failed ones too.
        hypervolume: Hypervolume of the front; None if an objective has no reference or ideal value, and before the
            first feasible candidate.
    """

    trials: int
    epochs: int
    hypervolume: float | None


def history(record: SweepRecord) -> list[Step]:
    """The hypervolume over trials and over epochs spent, in the order in which candidates were completed."""
    objectives = record.objectives
    ended = [(max(trial.ended_at or 0.0 for trial in one.trials), one) for one in candidates(record)]
    ended.sort(key=lambda pair: pair[0])
    reported = np.sort([report.at for trial in record.trials.values() for report in trial.reports])
    steps: list[Step] = []
    corners = objectives.reference_point, objectives.ideal_point
    best = np.empty((0, len(objectives)))
    boxed, volume = no_box(record) is None, None
    for at, candidate in ended:
        point = objectives.maximized(candidate.values)
        if candidate.feasible and not np.isnan(point).any() and not (best >= point).all(axis=1).any():
            best = np.vstack([best[(best > point).any(axis=1)], point])
            volume = normalized_hypervolume(best, *corners) if boxed else None
        steps.append(Step(len(steps) + 1, int(np.searchsorted(reported, at, side="right")), volume))
    return steps
