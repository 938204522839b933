"""Comparing sweeps with the same objectives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gaptune.errors import UserError
from gaptune.ledger import SweepRecord
from gaptune.pareto.dominance import front
from gaptune.pareto.hypervolume import normalized_hypervolume
from gaptune.results.front import candidates, summarize
from gaptune.results.unknown import Unknown

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Standing:
    """A sweep among others.

    Attributes:
        name: Its name.
        data: What it was trained on.
        trials: Trials in all.
        epochs: Epochs that they were trained.
        complete: Candidates that were trained to the end.
        infeasible: Those of them that break a constraint.
        hypervolume: Hypervolume with the common reference and ideal point; None if the sweep has no front.
        front: Members of its front.
        common: Members of its front that are on the front of all sweeps together.
        unknown: Why it has no hypervolume.
    """

    name: str
    data: str
    trials: int
    epochs: int
    complete: int
    infeasible: int
    hypervolume: float | None
    front: int
    common: int
    unknown: Unknown | None = None


def compare_sweeps(records: Sequence[SweepRecord]) -> list[Standing]:
    """Compares sweeps with a common reference and ideal point.

    Reference and ideal point are those of the first sweep's config; for an objective without them (of a view) they are
    the worst and the best value of all candidates.

    Raises:
        UserError: The sweeps differ in their objectives.
    """
    objectives = records[0].objectives
    wanted = [(objective.metric, objective.maximize) for objective in objectives]
    for record in records[1:]:
        if [(o.metric, o.maximize) for o in record.objectives] != wanted:
            raise UserError(
                f"{record.name!r} and {records[0].name!r} have different objectives; choose some with --objective"
            )
    summaries = [summarize(record) for record in records]
    points = [objectives.maximized([member.values for member in one.front]) for one in summaries]
    together = front(np.vstack(points))
    low, high = _corners(records)
    standings, start = [], 0
    for record, summary, own in zip(records, summaries, points, strict=True):
        standings.append(
            Standing(
                name=record.name,
                data=record.header.data.name,
                trials=len(record.trials),
                epochs=sum(trial.epoch for trial in record.trials.values()),
                complete=summary.complete,
                infeasible=summary.infeasible,
                hypervolume=normalized_hypervolume(own, low, high) if len(own) else None,
                front=len(own),
                common=int(together[start : start + len(own)].sum()),
                unknown=None if len(own) else summary.unknown,
            )
        )
        start += len(own)
    return standings


def _corners(records: Sequence[SweepRecord]) -> tuple[Values, Values]:
    objectives = records[0].objectives
    low, high = objectives.reference_point, objectives.ideal_point
    every = objectives.maximized([one.values for record in records for one in candidates(record)])
    if len(every) == 0:
        return low, high
    worst, best = np.nanmin(every, axis=0), np.nanmax(every, axis=0)
    best = np.where(best > worst, best, worst + 1.0)
    return np.where(np.isnan(low), worst, low), np.where(np.isnan(high), best, high)
