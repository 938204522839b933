"""The Pareto front of a sweep and how good it is."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from gaptune.ledger import State, SweepRecord, TrialRecord
from gaptune.pareto.dominance import front, oriented
from gaptune.pareto.hypervolume import normalized_hypervolume
from gaptune.results.feasible import keeps, none_feasible
from gaptune.results.unknown import Unknown, Why


@dataclass(frozen=True)
class Candidate:
    """A completed candidate: one set of parameters, trained on one seed or several.

    Attributes:
        trials: A trial for each seed.
        values: Mean of each objective over the seeds.
        errors: Standard error of each mean; 0 with a single seed, where nothing is known of it.
        feasible: Whether the means keep the sweep's constraints; ``gaptune.results.feasible.broken`` says which not.
    """

    trials: list[TrialRecord]
    values: list[float]
    errors: list[float]
    feasible: bool

    @property
    def trial(self) -> TrialRecord:
        """The trial of the first seed."""
        return self.trials[0]

    def mean(self, metric: str) -> float:
        """Mean of any metric over the seeds; NaN when it was not measured."""
        means, _ = _over_seeds([[trial.last.get(metric, math.nan)] for trial in self.trials])
        return means[0]


@dataclass(frozen=True)
class Summary:
    """What a sweep has come to.

    Attributes:
        front: The feasible candidates that no other one beats in every objective, best first objective first.
        hypervolume: Fraction of the box between reference and ideal point that the front dominates, 0 to 1; None where
            it is not known.
        unknown: Why there is no hypervolume, or no front.
        counts: Number of trials by state, in the order of ``State``, without zeros.
        complete: Completed candidates.
        infeasible: Those of them that break a constraint.
    """

    front: list[Candidate]
    hypervolume: float | None
    unknown: Unknown | None
    counts: dict[State, int]
    complete: int
    infeasible: int


def completed(record: SweepRecord) -> Iterator[Candidate]:
    """The candidates of which every seed is COMPLETE, in the order of their numbers; the same parameters again, too."""
    metrics, constraints = [objective["metric"] for objective in record.objectives], record.constraints
    for trials in record.candidates().values():
        if len(trials) < record.seeds:  # a driver was killed while it drew them, or their lines were lost
            continue
        if State.together(trial.state for trial in trials) is State.COMPLETE:
            means, errors = _over_seeds([[trial.last.get(m, math.nan) for m in metrics] for trial in trials])
            one = Candidate(trials, means, errors, feasible=True)
            kept = all(keeps(one.mean(str(c["metric"])), c) for c in constraints)
            yield one if kept else replace(one, feasible=False)


def candidates(record: SweepRecord) -> list[Candidate]:
    """The candidates of which every seed is COMPLETE, in the order of their numbers.

    The same parameters count once, with the first candidate of them: on the same seeds they end the same.
    """
    first: dict[str, Candidate] = {}
    for one in completed(record):
        first.setdefault(str(sorted(one.trial.params.items())), one)
    return list(first.values())


def _over_seeds(values: list[list[float]]) -> tuple[list[float], list[float]]:
    """Means and standard errors; without numpy for one seed, of which there may be ten thousand."""
    if len(values) == 1:
        return values[0], [0.0 * value for value in values[0]]
    table = np.array(values, dtype=float)
    errors = table.std(axis=0, ddof=1) / math.sqrt(len(values))
    return table.mean(axis=0).tolist(), errors.tolist()


def summarize(record: SweepRecord) -> Summary:
    """Works out the front and the hypervolume of a sweep's completed trials.

    The hypervolume's reference and ideal point are those of the sweep's YAML, never taken from the trials.

    Args:
        record: The sweep, finished or not.
    """
    complete = candidates(record)
    feasible = [candidate for candidate in complete if candidate.feasible]
    objectives = record.objectives
    maximize = [objective["maximize"] for objective in objectives]
    points = oriented([candidate.values for candidate in feasible], maximize)
    corner = oriented([[o["reference"] for o in objectives], [o["ideal"] for o in objectives]], maximize)
    members = np.flatnonzero(front(points))
    order = sorted(members, key=lambda row: (-points[row, 0], feasible[row].trial.number))
    counts = {state: record.count(state) for state in State}
    unknown = _no_front(record, complete) if len(members) == 0 else no_box(record)
    return Summary(
        front=[feasible[row] for row in order],
        hypervolume=None if unknown is not None else normalized_hypervolume(points, corner[0], corner[1]),
        unknown=unknown,
        counts={state: count for state, count in counts.items() if count},
        complete=len(complete),
        infeasible=len(complete) - len(feasible),
    )


def no_box(record: SweepRecord) -> Unknown | None:
    """Why a record has no hypervolume whatever its front: an objective of a view has no reference and ideal point."""
    without = [o["metric"] for o in record.objectives if not math.isfinite(o["reference"] + o["ideal"])]
    if not without:
        return None
    return Unknown(Why.NO_BOX, f"{' and '.join(without)}: no reference and ideal point in the sweep's YAML")


def _no_front(record: SweepRecord, complete: list[Candidate]) -> Unknown:
    if not complete:
        return Unknown(Why.NONE_COMPLETE, f"no candidate is complete ({_counts(record)})")
    measured = [one for one in complete if all(map(math.isfinite, one.values))]
    if not measured:
        missing = [
            objective["metric"]
            for index, objective in enumerate(record.objectives)
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
