"""What the events of a ledger add up to: trials, their reports and states."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from gaptune.errors import UserError
from gaptune.ledger.events import Event
from gaptune.ledger.header import Constraint, SweepHeader
from gaptune.pareto.objectives import Objectives

_ENDS = ("end", "metrics")
_OF_TRIALS = ("start", "report", "retry", *_ENDS)


def next_report(epoch: int, epochs: int, every: int) -> int:
    """The first epoch, at or after one, after which a training reports.

    Args:
        epoch: Counted from 1.
        epochs: Epochs of the whole training; there is always a report after the last.
        every: Epochs between two reports.
    """
    return min(-(-epoch // every) * every, epochs)


class State(StrEnum):
    """The state of a trial."""

    WAITING = "WAITING"
    RUNNING = "RUNNING"
    COMPLETE = "COMPLETE"
    PRUNED = "PRUNED"
    FAIL = "FAIL"

    @property
    def ended(self) -> bool:
        """Whether the trial has ended."""
        return self is not State.WAITING and self is not State.RUNNING

    @staticmethod
    def together(states: Iterable[State]) -> State:
        """The state of a candidate whose seeds are in some states.

        It has not ended before all have; then one failed seed fails it, and one stopped seed stops it.
        """
        found = set(states)
        order = (State.RUNNING, State.WAITING, State.FAIL, State.PRUNED, State.COMPLETE)
        first = next(state for state in order if state in found)
        return State.RUNNING if not first.ended and len(found) > 1 else first


@dataclass
class ReportRecord:
    """The metrics after some epochs. ``at`` is the time of the report in seconds since 1970."""

    epoch: int
    step: int
    at: float
    metrics: dict[str, float]


@dataclass
class TrialRecord:
    """The state of a trial.

    Attributes:
        number: Its number in the sweep, from 0.
        candidate: The set of parameters that it tries, from 0; with one seed per candidate the same as its number.
        params: The parameters that the search chose, by dotted path.
        config: The full configuration, flattened.
        method: Name of its method in the paper's terms.
        drawn_at: When it was drawn, in seconds since 1970.
        state: Its state.
        reason: Why it failed or was stopped.
        started_at: When a worker first began it.
        node: The machine that ran it last.
        ended_at: When it ended.
        notes: The sampler's notes on the candidate.
        retries: Reasons of failures after which it was retried.
        reports: One for each time that it was evaluated, in order.
    """

    number: int
    candidate: int
    params: dict[str, Any]
    config: dict[str, Any]
    method: str
    drawn_at: float
    notes: dict[str, Any] = field(default_factory=dict)
    state: State = State.WAITING
    reason: str | None = None
    started_at: float | None = None
    node: str | None = None
    ended_at: float | None = None
    retries: list[str] = field(default_factory=list)
    reports: list[ReportRecord] = field(default_factory=list)

    @property
    def last(self) -> dict[str, float]:
        """The newest metrics; empty before the first report."""
        return self.reports[-1].metrics if self.reports else {}

    @property
    def epoch(self) -> int:
        """Epochs reported so far."""
        return self.reports[-1].epoch if self.reports else 0

    @property
    def epochs(self) -> int:
        """Epochs of its full budget."""
        return int(self.config["training.epochs"])

    @property
    def num_reports(self) -> int:
        """Reports of its full budget."""
        return -(-self.epochs // self._every)

    def next_report(self, epoch: int) -> int:
        """The first epoch, at or after one, after which it reports."""
        return next_report(epoch, self.epochs, self._every)

    @property
    def _every(self) -> int:
        return int(self.config.get("training.evaluate_every", 1))  # which trials of earlier versions do not have


@dataclass
class SweepRecord:
    """A sweep as given by the events of its ledger.

    Attributes:
        header: What the sweep is.
        trials: Trials by number.
        highest: The highest trial number in any event; -1 before the first.
        highest_candidate: The highest candidate number in any event.
        sessions: Number of drivers so far.
        session_gpus: GPUs of a trial of the newest driver; None in ledgers of earlier versions.
        paused: Why the last driver stopped early; None while one runs or when all is done.
        done: Whether every trial has ended.
        updated_at: Time of the newest event.
    """

    header: SweepHeader = field(default_factory=SweepHeader)
    trials: dict[int, TrialRecord] = field(default_factory=dict)
    highest: int = -1
    highest_candidate: int = -1
    sessions: int = 0
    session_gpus: float | None = None
    paused: str | None = None
    done: bool = False
    updated_at: float = 0.0

    @property
    def name(self) -> str:
        """The sweep's name."""
        return self.header.name

    @property
    def objectives(self) -> Objectives:
        """The objectives."""
        return self.header.objectives

    @property
    def constraints(self) -> tuple[Constraint, ...]:
        """The constraints."""
        return self.header.constraints

    @property
    def seeds(self) -> int:
        """Trials of each candidate."""
        return self.header.seeds

    @property
    def gpus(self) -> float:
        """GPUs of a trial."""
        return self.session_gpus if self.session_gpus is not None else self.header.gpus or 0.0

    def values(self, trial: TrialRecord) -> list[float]:
        """A trial's newest values of the objectives; NaN for what is missing."""
        return [trial.last.get(metric, float("nan")) for metric in self.objectives.metrics]

    def candidates(self) -> dict[int, list[TrialRecord]]:
        """The trials of each candidate, by its number: one for each of its seeds, in the order of the seeds."""
        groups: dict[int, list[TrialRecord]] = {}
        for _, trial in sorted(self.trials.items()):
            groups.setdefault(trial.candidate, []).append(trial)
        for group in groups.values():
            if len(group) > 1:
                group.sort(key=lambda trial: trial.config.get("seed", 0))
        return dict(sorted(groups.items()))

    def count(self, *states: State) -> int:
        """How many trials are in any of some states."""
        trials = list(self.trials.values())  # in one step: the panel's thread counts while the driver enters trials
        return sum(trial.state in states for trial in trials)

    def apply(self, event: Event) -> bool:
        """Applies one event.

        A duplicate report (a trial resumed from a checkpoint may emit its last one twice) and a second end change
        nothing.

        Returns:
            Whether the event changed something.
        """
        kind, self.updated_at = event["event"], max(self.updated_at, event["at"])
        if "trial" in event:
            self.highest = max(self.highest, event["trial"])
        if kind == "sweep":
            self.header = SweepHeader.parse(event)
        elif kind == "session":
            self.session_gpus = event.get("gpu")
            self.sessions, self.paused, self.done = self.sessions + 1, None, False
        elif kind == "pause":
            self.paused = event["reason"]
        elif kind == "done":
            self.done = True
        elif kind == "trial":
            number = event["trial"]
            if number in self.trials:
                return False
            self.highest_candidate = max(self.highest_candidate, event["candidate"])
            self.trials[number] = TrialRecord(
                number,
                event["candidate"],
                event["params"],
                event["config"],
                event["method"],
                event["at"],
                event.get("sampler", {}),
            )
        elif kind in _OF_TRIALS:
            return self._apply_to_trial(kind, event, self.trials[event["trial"]])
        return True

    @staticmethod
    def _apply_to_trial(kind: str, event: Event, trial: TrialRecord) -> bool:
        if kind == "metrics":
            trial.last.update(event["metrics"])
            return bool(trial.reports)
        if trial.state.ended:
            return False
        if kind == "start":
            trial.state, trial.started_at = State.RUNNING, trial.started_at or event["at"]
            trial.node = event["node"]
        elif kind == "report":
            if event["epoch"] <= trial.epoch and any(known.epoch == event["epoch"] for known in trial.reports):
                return False
            trial.reports.append(ReportRecord(event["epoch"], event["step"], event["at"], event["metrics"]))
            if len(trial.reports) > 1 and trial.reports[-2].epoch > event["epoch"]:  # a lost report that was recovered
                trial.reports.sort(key=lambda report: report.epoch)
        elif kind == "retry":
            trial.retries.append(event["reason"])
        elif kind == "end":
            trial.state, trial.reason, trial.ended_at = State(event["state"]), event["reason"], event["at"]
        return True


def replay(events: Iterable[Event]) -> SweepRecord:
    """The state that events add up to, also if lines were lost or reordered.

    Of a trial whose ``trial`` line was lost only the number is used. A COMPLETE trial whose last report was lost has
    not ended: it is trained again.

    Raises:
        UserError: The events are of two sweeps.
    """
    record, header = SweepRecord(), None
    waiting: list[Event] = []  # for their trial's own line
    ends: list[Event] = []  # what they end may stand behind them
    for event in events:
        kind = event["event"]
        if kind in _ENDS:
            ends.append(event)
        elif kind in _OF_TRIALS and event["trial"] not in record.trials:
            waiting.append(event)
        else:
            record.apply(event)
        said = event if kind == "sweep" else event.get("sweep") if kind == "session" else None
        if said is not None:
            if header is not None and header.get("id") != said.get("id"):
                raise UserError(
                    "the ledger has lines of two sweeps; remove those of the other one, or restore an earlier copy"
                )
            header = said
    record.header = SweepHeader.parse(header) if header else SweepHeader()
    for event in (*waiting, *ends):
        record.highest = max(record.highest, event["trial"])
        if event["trial"] in record.trials:
            record.apply(event)
    for trial in record.trials.values():
        if trial.state is State.COMPLETE and trial.epoch < trial.epochs:
            trial.state, trial.ended_at = State.WAITING, None
    return record


def known_trials(events: Iterable[Event]) -> list[Event]:
    """The events without those of trials whose own ``trial`` line was lost."""
    events = list(events)
    known = {event["trial"] for event in events if event["event"] == "trial"}
    return [event for event in events if "trial" not in event or event["trial"] in known]
