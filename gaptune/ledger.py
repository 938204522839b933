"""The ledger: an append-only file of all that happened in a sweep, and the state that it adds up to.

The ledger is the truth. The Optuna study, MLflow and the results are made from it, and can be made again. It is a
text file of JSON lines, each closed by a checksum, so that a line torn by a crash or damaged on disk is noticed:

* ``sweep``: what was asked for (space, sweep's YAML, data, versions, command); the first line.
* ``session``: a driver began to work on it. ``pause``: it stopped before the sweep was done.
* ``trial``: a suggestion was drawn. ``start``: a worker took it up. ``report``: an epoch was evaluated.
* ``retry``: a fault that a retry may cure. ``end``: the trial's final state.
* ``scores``: an ended trial was evaluated on further data.
* ``done``: every trial of the sweep has ended.
"""

from __future__ import annotations

import fcntl
import gc
import json
import os
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Any

import orjson

from gaptune.errors import UserError, did_you_mean
from gaptune.shipped import RECORDED, recorded

FILE_NAME = "ledger.jsonl"
_LOCK = "ledger.lock"
SCHEMA = 1

Event = dict[str, Any]


class State(StrEnum):
    """Where a trial stands."""

    WAITING = "WAITING"
    RUNNING = "RUNNING"
    COMPLETE = "COMPLETE"
    PRUNED = "PRUNED"
    FAIL = "FAIL"

    @property
    def ended(self) -> bool:
        """Whether nothing more will come of the trial."""
        return self is not State.WAITING and self is not State.RUNNING

    @staticmethod
    def together(states: Iterable[State]) -> State:
        """The state of a suggestion whose seeds are in some states.

        It has not ended before all have; then one failed seed fails it, and one stopped seed stops it.
        """
        found = set(states)
        order = (State.RUNNING, State.WAITING, State.FAIL, State.PRUNED, State.COMPLETE)
        first = next(state for state in order if state in found)
        return State.RUNNING if not first.ended and len(found) > 1 else first


@dataclass
class ReportRecord:
    """The scores after one epoch. ``at`` is the time of the report in seconds since 1970."""

    epoch: int
    step: int
    at: float
    metrics: dict[str, float]


@dataclass
class TrialRecord:
    """All that is known of a trial.

    Attributes:
        number: Its number in the sweep, from 0.
        suggestion: The set of knobs that it tries, from 0; with one seed per suggestion the same as its number.
        knobs: What the search decided, by dotted path.
        config: The full configuration, flattened.
        method: What the paper would call it.
        drawn_at: When it was suggested, in seconds since 1970.
        state: Where it stands.
        reason: Why it failed or was stopped.
        started_at: When a worker first took it up.
        node: The machine that took it up last.
        ended_at: When it ended.
        retries: Faults after which it was tried again.
        reports: One per epoch, in order.
    """

    number: int
    suggestion: int
    knobs: dict[str, Any]
    config: dict[str, Any]
    method: str
    drawn_at: float
    state: State = State.WAITING
    reason: str | None = None
    started_at: float | None = None
    node: str | None = None
    ended_at: float | None = None
    retries: list[str] = field(default_factory=list)
    reports: list[ReportRecord] = field(default_factory=list)

    @property
    def last(self) -> dict[str, float]:
        """The newest scores; empty before the first report."""
        return self.reports[-1].metrics if self.reports else {}

    @property
    def epoch(self) -> int:
        """Epochs reported so far."""
        return self.reports[-1].epoch if self.reports else 0

    @property
    def epochs(self) -> int:
        """Epochs of its full budget."""
        return int(self.config["training.epochs"])


@dataclass
class SweepRecord:
    """A sweep as the events of its ledger add up.

    Attributes:
        header: The ``sweep`` event.
        trials: Trials by number.
        sessions: How many drivers have worked on it.
        paused: Why the last driver stopped early; None while one runs or when all is done.
        done: Whether every trial has ended.
        updated_at: Time of the newest event.
    """

    header: Event = field(default_factory=dict)
    trials: dict[int, TrialRecord] = field(default_factory=dict)
    sessions: int = 0
    paused: str | None = None
    done: bool = False
    updated_at: float = 0.0

    @property
    def name(self) -> str:
        """The sweep's name."""
        return str(self.header["name"])

    @property
    def objectives(self) -> list[dict[str, Any]]:
        """The objectives: metric, maximize, reference, ideal."""
        return list(self.header["objectives"])

    @property
    def constraints(self) -> list[dict[str, Any]]:
        """The constraints: metric, min, max."""
        return list(self.header["sweep"].get("constraints", ()))

    def values(self, trial: TrialRecord) -> list[float]:
        """A trial's newest values of the objectives; NaN for what is missing."""
        return [trial.last.get(objective["metric"], float("nan")) for objective in self.objectives]

    def suggestions(self) -> dict[int, list[TrialRecord]]:
        """The trials of each suggestion: one for each of its seeds."""
        groups: dict[int, list[TrialRecord]] = {}
        for trial in self.trials.values():
            groups.setdefault(trial.suggestion, []).append(trial)
        return groups

    def count(self, *states: State) -> int:
        """How many trials are in any of some states."""
        return sum(trial.state in states for trial in self.trials.values())

    def apply(self, event: Event) -> bool:
        """Takes in one event.

        A report of an epoch that is already there (a trial that went on from a checkpoint says its last one again)
        and a second end change nothing.

        Returns:
            Whether the event said something new.
        """
        kind, self.updated_at = event["event"], event["at"]
        if kind == "sweep":
            self.header = event
        elif kind == "session":
            self.sessions, self.paused, self.done = self.sessions + 1, None, False
        elif kind == "pause":
            self.paused = event["reason"]
        elif kind == "done":
            self.done = True
        elif kind == "trial":
            number = event["trial"]
            if number in self.trials:
                return False
            self.trials[number] = TrialRecord(
                number, event["suggestion"], event["knobs"], event["config"], event["method"], event["at"]
            )
        else:
            return self._apply_to_trial(kind, event, self.trials[event["trial"]])
        return True

    @staticmethod
    def _apply_to_trial(kind: str, event: Event, trial: TrialRecord) -> bool:
        if kind == "scores":
            trial.last.update(event["metrics"])
            return bool(trial.reports)
        if trial.state.ended:
            return False
        if kind == "start":
            trial.state, trial.started_at = State.RUNNING, trial.started_at or event["at"]
            trial.node = event["node"]
        elif kind == "report":
            if event["epoch"] <= trial.epoch:
                return False
            trial.reports.append(ReportRecord(event["epoch"], event["step"], event["at"], event["metrics"]))
        elif kind == "retry":
            trial.retries.append(event["reason"])
        elif kind == "end":
            trial.state, trial.reason, trial.ended_at = State(event["state"]), event["reason"], event["at"]
        return True


class Ledger:
    """A ledger opened for appending, by one driver at a time; damaged lines are taken out of it first.

    Args:
        folder: The sweep's folder.

    Attributes:
        damages: What was taken out.

    Raises:
        UserError: Another driver has it open.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = (folder / _LOCK).open("w")  # a file of its own: mending replaces the ledger
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.close()
            raise UserError(
                f"sweep {folder.name!r} is being run by another process; see `gaptune status {folder.name}`"
            ) from None
        self.path = folder / FILE_NAME
        self.damages = _mend(folder) if self.path.exists() else []
        self._file: FileIO = self.path.open("ab", buffering=0)

    def append(self, event: Event, *, durable: bool = True) -> None:
        """Writes one event.

        Args:
            event: A JSON-able mapping with ``event`` and ``at``. Non-finite floats are refused: no reader agrees on
                them.
            durable: Wait until the disk has it. Without, a killed driver loses nothing, a power cut may.

        Raises:
            OSError: The disk did not take it (it is full, say); nothing of it is left in the file.
        """
        line, before = _encode(event), self._file.seek(0, os.SEEK_END)
        try:
            while line:  # a full disk may take a part
                line = line[self._file.write(line) :]
        except OSError:
            self._file.truncate(before)
            raise
        if durable:
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Lets another driver have it."""
        self._file.close()
        self._lock.close()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@dataclass(frozen=True)
class Damage:
    """A line of a ledger that cannot be used. ``torn`` marks a last line that was cut short by a crash."""

    line: int
    torn: bool
    content: bytes


def read_events(folder: Path) -> tuple[list[Event], list[Damage]]:
    """Reads a sweep's ledger, also while a driver appends to it.

    Args:
        folder: The sweep's folder.

    Returns:
        The good events in order, and the lines that are damaged.

    Raises:
        UserError: There is no ledger there.
    """
    path = folder / FILE_NAME
    try:
        return parse_events(path.read_bytes())
    except FileNotFoundError:
        raise UserError(f"no sweep at {folder} (it has no {FILE_NAME})") from None


def parse_events(content: bytes) -> tuple[list[Event], list[Damage]]:
    """The good events and the damaged lines in the content of a ledger."""
    events: list[Event] = []
    damages: list[Damage] = []
    lines = content.split(b"\n")
    last = len(lines) - 1  # what follows the last newline: empty, or a line cut short
    for number, line in enumerate(lines):
        if not line:
            continue
        event = _decode(line)
        if event is None or number == last:
            damages.append(Damage(number + 1, number == last, line))
        else:
            events.append(event)
    return events, damages


def _mend(folder: Path) -> list[Damage]:
    """Takes damaged lines out of a ledger, into ``ledger.quarantine`` beside it, in one step.

    A torn last line is simply cut off: what it would have said was never acknowledged.
    """
    events, damages = read_events(folder)
    if not damages:
        return []
    path = folder / FILE_NAME
    corrupt = [damage for damage in damages if not damage.torn]
    if corrupt:
        with (folder / "ledger.quarantine").open("ab") as quarantine:
            for damage in corrupt:
                quarantine.write(b"line %d: " % damage.line + damage.content + b"\n")
    mended = path.with_suffix(".mended")
    with mended.open("wb") as file:
        file.writelines(_encode(event) for event in events)
        file.flush()
        os.fsync(file.fileno())
    mended.replace(path)
    return damages


def replay(events: Iterable[Event]) -> SweepRecord:
    """The state that a series of events adds up to."""
    record = SweepRecord()
    for event in usable(events):
        record.apply(event)
    return record


def usable(events: Iterable[Event]) -> Iterator[Event]:
    """Leaves out events of trials whose own ``trial`` line was lost to damage."""
    known: set[int] = set()
    for event in events:
        if event["event"] == "trial":
            known.add(event["trial"])
        if "trial" not in event or event["trial"] in known:
            yield event


def load(folder: Path) -> SweepRecord:
    """The state of the sweep in a folder.

    Raises:
        UserError: There is no ledger there, or it does not start with what the sweep is.
    """
    collecting = gc.isenabled()
    gc.disable()  # reading leaves no cyclic garbage, but a million values that the search for it would look through
    try:
        events, _ = read_events(folder)
        record = replay(events)
    finally:
        if collecting:
            gc.enable()
    if not record.header:
        raise UserError(f"the first line, which says what the sweep is, is damaged or missing: {folder / FILE_NAME}")
    if record.header["schema"] != SCHEMA:
        raise UserError(f"{folder / FILE_NAME} has schema {record.header['schema']}; this gaptune reads {SCHEMA}")
    return record


def sweep_folder(results: Path, name: str) -> Path:
    """The folder of a sweep that exists.

    Raises:
        UserError: There is none of that name in the results folder; with the nearest name.
    """
    known = [path.parent.name for path in results.glob(f"*/{FILE_NAME}")]
    if name not in known:
        raise UserError(f"no sweep {name!r} in {results}{did_you_mean(name, known)}")
    return results / name


def find_sweep(results: Path, name: str) -> Path:
    """The folder of a sweep to be read: one in the results folder, or a recorded one that comes with gaptune.

    Raises:
        UserError: There is none of that name; with the nearest name.
    """
    if name in RECORDED and not (results / name / FILE_NAME).exists():
        return recorded(name)
    return sweep_folder(results, name)


def in_use(folder: Path) -> bool:
    """Whether a driver on this machine has the ledger of the sweep in a folder open."""
    try:
        lock = (folder / _LOCK).open()
    except FileNotFoundError:
        return False
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _encode(event: Event) -> bytes:
    body = json.dumps(event, allow_nan=False, ensure_ascii=False, separators=(",", ":")).encode()
    return body[:-1] + b',"crc":"%08x"}\n' % zlib.crc32(body)


def _decode(line: bytes) -> Event | None:
    head, mark, crc = line.rpartition(b',"crc":"')
    body = head + b"}"
    if not mark or crc != b'%08x"}' % zlib.crc32(body):
        return None
    event: Event = orjson.loads(body)  # three times as quick as json: most of what reading a sweep takes
    return event
