"""A trial's own copy of its ledger lines, beside its checkpoints and written by its worker.

``trials/NNNN/trial.jsonl`` holds the trial's ``trial`` event and its reports. A ledger that has lost lines
recovers them from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gaptune.ledger.events import Event, encode, parse_events
from gaptune.storage.atomic import replacing

FILE_NAME = "trial.jsonl"


class TrialFile:
    """The file of one trial, written whole with each report.

    Args:
        folder: The trial's folder.
        trial: The trial's event, with ``sweep_id``: the ``id`` of the sweep that it is of.
    """

    def __init__(self, folder: Path, trial: Event) -> None:
        self._path = folder / FILE_NAME
        self._trial = trial
        events = read(self._path.read_bytes()) if self._path.exists() else []
        mine = bool(events) and _same(events[0], trial)
        self._reports = {event["epoch"]: event for event in events[1:]} if mine else {}

    def report(self, at: float, epoch: int, step: int, metrics: Mapping[str, float]) -> None:
        """Writes a report, unless the file has its epoch.

        Raises:
            OSError: The disk does not take it.
        """
        number = self._trial["trial"]
        event = {"event": "report", "at": at, "trial": number, "epoch": epoch, "step": step, "metrics": dict(metrics)}
        self._reports.setdefault(epoch, event)
        lines = [encode(one) for one in (self._trial, *(self._reports[known] for known in sorted(self._reports)))]
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(self._path) as partial:
            partial.write_bytes(b"".join(lines))


def read(content: bytes) -> list[Event]:
    """The lines of a trial's file that can be read; nothing without the first, which says which trial it is."""
    events, _ = parse_events(content)
    if not events or events[0]["event"] != "trial":
        return []
    number: Any = events[0]["trial"]
    return [events[0], *(one for one in events[1:] if one["event"] == "report" and one["trial"] == number)]


def _same(one: Event, other: Event) -> bool:
    return all(one.get(name) == other.get(name) for name in ("sweep_id", "trial", "config"))
