"""The difference between what MLflow should hold of a trial and what it holds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gaptune.ledger import SweepRecord, TrialRecord
from gaptune.tracking.translate import (
    DESCRIPTION,
    Point,
    milliseconds,
    trial_name,
    trial_params,
    trial_points,
    trial_status,
    trial_tags,
)

if TYPE_CHECKING:
    from mlflow.entities import Run


@dataclass
class Known:
    """What MLflow has of a run.

    Attributes:
        run_id: Id of the run.
        status: Status of the run.
        end: When it ended, in milliseconds since 1970.
        tags: Its tags.
        params: The names of its parameters: MLflow never changes their values.
        epochs: By metric, the last epoch that it has.
    """

    run_id: str
    status: str = "RUNNING"
    end: int | None = None
    tags: dict[str, str] = field(default_factory=dict)
    params: set[str] = field(default_factory=set)
    epochs: dict[str, int] = field(default_factory=dict)

    @staticmethod
    def read(run: Run) -> Known:
        """What a search has found."""
        last = {metric.key: int(metric.step) for metric in run.data._metric_objs}  # the public ones have no step
        info = run.info
        return Known(info.run_id, info.status, info.end_time, dict(run.data.tags), set(run.data.params), last)

    def take(self, change: Change) -> None:
        """Notes that a change has been written."""
        self.tags.update(change.tags)
        self.params.update(change.params)
        self.epochs.update({point.metric: point.epoch for point in change.points})
        if change.status is not None:
            self.status, self.end = change.status, change.end


@dataclass
class Change:
    """What is to be written of a trial.

    Attributes:
        trial: Number of the trial.
        run_id: Id of its run; None for a run that is to be created.
        name: Name of the run.
        start: When the trial was drawn, in milliseconds since 1970.
        tags: Tags that are missing or differ.
        params: Parameters that are missing.
        points: Values of metrics that are missing, in order.
        status: The status to set; None where it is right.
        end: With a status that is an end: when, in milliseconds since 1970.
    """

    trial: int
    run_id: str | None
    name: str
    start: int
    tags: dict[str, str] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    points: list[Point] = field(default_factory=list)
    status: str | None = None
    end: int | None = None

    def __bool__(self) -> bool:
        return bool(self.run_id is None or self.tags or self.params or self.points or self.status)


def difference(record: SweepRecord, trial: TrialRecord, parent: str, known: Known | None) -> Change:
    """What MLflow lacks of a trial.

    Args:
        record: The sweep; the driver may be adding to it.
        trial: One of its trials.
        parent: Id of the sweep's run.
        known: What MLflow has; None for nothing.
    """
    has = known or Known("")
    change = Change(trial.number, has.run_id or None, trial_name(record, trial), milliseconds(trial.drawn_at))
    change.tags = {k: value for k, value in trial_tags(record, trial, parent).items() if has.tags.get(k) != value}
    if DESCRIPTION in has.tags:
        change.tags.pop(DESCRIPTION, None)  # somebody may have written another one
    change.params = {key: value for key, value in trial_params(trial).items() if key not in has.params}
    change.points = [point for point in trial_points(trial) if has.epochs.get(point.metric, -1) < point.epoch]
    status, end = trial_status(record, trial)
    if status != has.status or (end is not None and end != has.end):
        change.status, change.end = status, end
    return change
