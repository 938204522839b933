"""The Pareto front of a sweep and its hypervolume."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from gaptune.ledger import State, SweepRecord
from gaptune.ledger.candidate import Candidate
from gaptune.pareto.dominance import front
from gaptune.results.feasible import none_feasible
from gaptune.results.unknown import Unknown, Why


@dataclass(frozen=True)
class Summary:
    """The outcome of a sweep.

    Attributes:
        front: The feasible candidates that no other one dominates, the best in the first objective first.
        hypervolume: Fraction of the volume between reference and ideal point that the front dominates, 0 to 1; None if
            it is unknown.
        unknown: Why there is no hypervolume, or no front.
        counts: Number of trials by state, in the order of ``State``, without zeros.
        complete: Completed candidates.
        infeasible: Complete candidates that break a constraint.
    """

    front: list[Candidate]
    hypervolume: float | None
    unknown: Unknown | None
    counts: dict[State, int]
    complete: int
    infeasible: int


def completed(record: SweepRecord) -> Iterator[Candidate]:
    """The candidates whose seeds are all COMPLETE, in the order of their numbers, repeated parameters included."""
    for trials in record.candidates().values():
        if len(trials) < record.seeds:  # a driver was killed while it drew them, or their lines were lost
            continue
        if State.together(trial.state for trial in trials) is State.COMPLETE:
            yield Candidate.of(record, trials)


def candidates(record: SweepRecord) -> list[Candidate]:
    """The candidates whose seeds are all COMPLETE, in the order of their numbers.

    Repeated parameters count once: on the same seeds they give the same result.
    """
    first: dict[str, Candidate] = {}
    for one in completed(record):
        first.setdefault(str(sorted(one.trial.params.items())), one)
    return list(first.values())


def summarize(record: SweepRecord) -> Summary:
    """Computes the front and the hypervolume of a sweep's completed candidates.

    Reference and ideal point are those of the sweep config, never taken from the trials.

    Args:
        record: The sweep, finished or not.
    """
    complete = candidates(record)
    feasible = [candidate for candidate in complete if candidate.feasible]
    values = [candidate.values for candidate in feasible]
    points = record.objectives.maximized(values)
    members = np.flatnonzero(front(points))
    order = sorted(members, key=lambda row: (-points[row, 0], feasible[row].trial.number))
    counts = {state: record.count(state) for state in State}
    unknown = _no_front(record, complete) if len(members) == 0 else no_box(record)
    return Summary(
        front=[feasible[row] for row in order],
        hypervolume=None if unknown is not None else record.objectives.hypervolume(values),
        unknown=unknown,
        counts={state: count for state, count in counts.items() if count},
        complete=len(complete),
        infeasible=len(complete) - len(feasible),
    )


def no_box(record: SweepRecord) -> Unknown | None:
    """Why a record has no hypervolume whatever its front: an objective of a view lacks a reference or ideal value."""
    without = record.objectives.unbounded
    if not without:
        return None
    return Unknown(Why.NO_BOX, f"{' and '.join(without)}: no reference and ideal point in the sweep's YAML")


def _no_front(record: SweepRecord, complete: list[Candidate]) -> Unknown:
    if not complete:
        return Unknown(Why.NONE_COMPLETE, f"no candidate is complete ({_counts(record)})")
    measured = [one for one in complete if all(map(math.isfinite, one.values))]
    if not measured:
        missing = [
            metric
            for index, metric in enumerate(record.objectives.metrics)
            if not all(math.isfinite(one.values[index]) for one in complete)
        ]
        return Unknown(Why.NOT_MEASURED, f"no complete candidate has all objectives; missing: {', '.join(missing)}")
    return none_feasible(record.constraints, measured, record.count(State.COMPLETE))


def _counts(record: SweepRecord) -> str:
    counts = {state: record.count(state) for state in State}
    if record.seeds > 1 and counts[State.COMPLETE]:
        return (
            f"{counts[State.COMPLETE]} of {len(record.trials)} trials are, but no candidate on all {record.seeds} seeds"
        )
    return "trials: " + (", ".join(f"{count} {state}" for state, count in counts.items() if count) or "none yet")
