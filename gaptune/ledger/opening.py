"""Opening a ledger for a driver: taken from the storage, repaired, and completed from the trials' own files."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from gaptune.errors import UserError
from gaptune.ledger import Event, Ledger, SweepRecord, parse_events, read_events, replay
from gaptune.ledger.backup import newer_ledger
from gaptune.ledger.file import QUARANTINE
from gaptune.ledger.recovery import highest_numbers, lost_events
from gaptune.ledger.trial_file import FILE_NAME
from gaptune.storage.folder import Folder

_NUMBER = re.compile(r"\d{4,}")


@dataclass(frozen=True)
class Opened:
    """A ledger after it was repaired and completed.

    Attributes:
        events: Everything in it.
        record: What that adds up to.
        highest: The highest numbers of a trial and of a candidate that were ever given.
    """

    events: list[Event]
    record: SweepRecord
    highest: tuple[int, int]


def open_ledger(ledger: Ledger, place: Folder | None, say: Callable[[str], None]) -> Opened:
    """Completes a driver's ledger from the storage and from the trials' own files.

    Args:
        ledger: The ledger.
        place: The sweep's folder in its storage, if it has one.
        say: Called with a line for the user for all that was lost or recovered.

    Raises:
        UserError: The storage has another ledger of that name, or cannot be read.
        OSError: The disk does not take what was found.
    """
    folder = ledger.path.parent
    brought = newer_ledger(place, folder) if place else None
    if brought is not None and place is not None:
        ledger.replace(brought)
        say(f"continuing with the ledger of {place.url}")
    for damage in ledger.damages:
        what = "torn by a crash, and cut off" if damage.torn else "damaged, and moved to ledger.quarantine"
        say(f"ledger line {damage.line} was {what}")
    events, _ = read_events(folder)
    record = replay(events)
    numbers = trial_numbers(folder, place)
    if not events:
        check_new(folder, numbers)
        return Opened([], record, (-1, -1))
    found = lost_events(record, numbers, lambda number: _trial_file(folder, place, number))
    for event in found:
        ledger.append(event, durable=False)
    if found:
        say(f"{len(found)} lost lines of the ledger were recovered from {_plural(found)}")
        events += found
        record = replay(events)
    quarantine = folder / QUARANTINE
    _, damages = parse_events(quarantine.read_bytes()) if quarantine.exists() else ([], [])
    return Opened(events, record, highest_numbers(record, damages, numbers))


def check_new(folder: Path, numbers: Sequence[int]) -> None:
    """Refuses to begin a sweep in a folder that has another's trials.

    Raises:
        UserError: There are trials, but no ledger that tells of them.
    """
    if numbers:
        raise UserError(
            f"{folder} has the checkpoints of {len(numbers)} trials, but no ledger that tells of them. Put an earlier "
            "copy of ledger.jsonl back, or choose another --name"
        )


def trial_numbers(folder: Path, place: Folder | None) -> list[int]:
    """The numbers of the trials that have a folder: here, or in the sweep's storage."""
    if place is not None:
        names = place.folders("trials")
    else:
        trials = folder / "trials"
        names = [path.name for path in trials.iterdir()] if trials.is_dir() else []
    return sorted(int(name) for name in names if _NUMBER.fullmatch(name))


def _plural(found: list[Event]) -> str:
    trials = {event["trial"] for event in found}
    return "the checkpoints of " + (f"trial {trials.pop()}" if len(trials) == 1 else f"{len(trials)} trials")


def _trial_file(folder: Path, place: Folder | None, number: int) -> bytes | None:
    name = f"trials/{number:04d}/{FILE_NAME}"
    if place is not None:
        return place.read(name)
    path = folder / name
    return path.read_bytes() if path.exists() else None
