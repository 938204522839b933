"""What MLflow should hold of a trial, what it holds, and the difference."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gaptune.ledger import State, SweepRecord, TrialRecord
from gaptune.space.methods import expand_method

if TYPE_CHECKING:
    from mlflow.entities import Run

NOTE = "mlflow.note.content"  # what the UI shows as a run's description
TRIAL = "gaptune.trial"
PARENT = "mlflow.parentRunId"
_STATUS = {State.COMPLETE: "FINISHED", State.PRUNED: "KILLED", State.FAIL: "FAILED"}
_TAG_LENGTH, _PARAM_LENGTH = 8000, 6000  # MLflow's own limits


@dataclass(frozen=True)
class Point:
    """A value of a metric; ``at`` is in milliseconds since 1970."""

    metric: str
    value: float
    at: int
    epoch: int


@dataclass
class Known:
    """What MLflow has of a run.

    Attributes:
        run_id: Its id.
        status: Its status.
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
        trial: Its number.
        run_id: Its run; None for one that is to be made.
        name: The run's name.
        start: When the trial was drawn, in milliseconds since 1970.
        tags: Those that are missing or differ.
        params: Those that are missing.
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
    name = f"{trial.number:04d} {trial.method} of {record.name}"  # number first: lists cut off all but the beginning
    change = Change(trial.number, has.run_id or None, name[:250], _ms(trial.drawn_at))
    change.tags = {key: value for key, value in _tags(record, trial, parent).items() if has.tags.get(key) != value}
    if NOTE in has.tags:
        change.tags.pop(NOTE, None)  # somebody may have written another one
    params = {**expand_method(trial.params), **{k: v for k, v in trial.params.items() if k == "method"}}
    change.params = {key: str(value)[:_PARAM_LENGTH] for key, value in params.items() if key not in has.params}
    for report in list(trial.reports):
        for metric, value in dict(report.metrics).items():
            if has.epochs.get(metric, -1) < report.epoch:
                change.points.append(Point(metric, value, _ms(report.at), report.epoch))
    status, end = _status(record, trial)
    if status != has.status or (end is not None and end != has.end):
        change.status, change.end = status, end
    return change


def _tags(record: SweepRecord, trial: TrialRecord, parent: str) -> dict[str, str]:
    header, state = record.header, trial.state
    tags = {
        PARENT: parent,
        TRIAL: str(trial.number),
        "gaptune.state": str(state if state.ended else State.RUNNING),
        "method": trial.method,
        "seed": str(trial.config.get("seed", "")),
        "space": header["space"]["name"],
        "sweep": header["name"],
        "data": header["data"]["hash"],
        NOTE: ", ".join(f"{parameter} = {value}" for parameter, value in trial.params.items()),
    }
    tags |= {key: value for key, value in (("node", trial.node), ("reason", trial.reason)) if value}
    return {key: value[:_TAG_LENGTH] for key, value in tags.items()}


def _status(record: SweepRecord, trial: TrialRecord) -> tuple[str, int | None]:
    """A trial that a driver left unfinished is KILLED until the sweep goes on; none is left RUNNING."""
    if trial.state.ended and trial.ended_at is not None:
        return _STATUS[trial.state], _ms(trial.ended_at)
    if record.paused is not None or record.done:
        return "KILLED", _ms(record.updated_at)
    return "RUNNING", None


def _ms(seconds: float) -> int:
    return int(seconds * 1000)
