"""The ledger's file: opened by one driver at a time, and repaired before it is written to."""

from __future__ import annotations

import os
from io import FileIO
from pathlib import Path
from types import TracebackType

from gaptune.errors import UserError
from gaptune.ledger.events import FILE_NAME, Damage, Event, encode, name_lines, parse_events
from gaptune.ledger.state import replay
from gaptune.storage import lock
from gaptune.storage.atomic import remove_stale, replacing

LOCK = "ledger.lease"
QUARANTINE = "ledger.quarantine"


class LostError(OSError):
    """Another driver has taken over the ledger, because this one had stopped for too long."""


class Ledger:
    """A ledger opened for appending, by one driver at a time; damaged lines are taken out of it first.

    Args:
        folder: The sweep's folder.

    Attributes:
        damages: What was taken out.

    Raises:
        UserError: Another driver has it open, or nothing in it can be read, or not what the sweep is.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._lost = False
        try:
            self._lock = lock.acquire(folder / LOCK, on_lost=self._lose)
        except lock.HeldError as error:
            raise UserError(
                f"sweep {folder.name!r} is being run by another process ({error}); see `gaptune status {folder.name}`"
            ) from None
        try:
            remove_stale(folder)
            self.path = folder / FILE_NAME
            self.damages = _mend(folder) if self.path.exists() else []
            self._file: FileIO = self.path.open("ab", buffering=0)
        except BaseException:
            self._lock.release()
            raise

    def append(self, event: Event, *, durable: bool = True) -> None:
        """Writes one event.

        Args:
            event: A JSON-able mapping with ``event`` and ``at``. Non-finite floats are refused: no reader agrees on
                them.
            durable: Wait until the disk has it. Without, a killed driver loses nothing, a power cut may.

        Raises:
            LostError: Another driver has the ledger now.
            OSError: The disk did not take it (it is full, say); nothing of it is left in the file.
        """
        if self._lost:
            raise LostError(f"another driver has taken {self.path} over, because this one had stopped for too long")
        line, before = encode(event), self._file.seek(0, os.SEEK_END)
        try:
            while line:  # a full disk may take a part
                line = line[self._file.write(line) :]
        except OSError:
            self._file.truncate(before)
            raise
        if durable:
            os.fsync(self._file.fileno())

    def replace(self, content: bytes) -> None:
        """Puts other content in place of all that is there, in one step."""
        self._file.close()
        with replacing(self.path) as partial:
            partial.write_bytes(content)
        self.damages = _mend(self.path.parent)
        self._file = self.path.open("ab", buffering=0)

    def close(self) -> None:
        """Lets another driver have it."""
        self._file.close()
        self._lock.release()

    def _lose(self) -> None:
        self._lost = True

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def check_readable(events: list[Event], damages: list[Damage], path: Path) -> None:
    """Refuses a ledger that has content, but does not tell what the sweep is.

    Raises:
        UserError: With the lines that are damaged, and what to do.
    """
    if (events or damages) and not replay(events).header:
        what = f"of its lines {len(events)} can be read, damaged are {name_lines(damages) or 'none'}"
        raise UserError(
            f"the line that says what the sweep is cannot be read ({what}). Nothing was changed. Put an earlier copy "
            f"of {FILE_NAME} in its place, or give a new sweep another --name",
            file=path,
        )


def _mend(folder: Path) -> list[Damage]:
    """Takes damaged lines out of a ledger, into ``ledger.quarantine`` beside it, in one step.

    A torn last line is simply cut off: what it would have said was never acknowledged. A first line that was lost is
    put back from a session's copy.
    """
    path = folder / FILE_NAME
    content = path.read_bytes()
    events, damages = parse_events(content)
    check_readable(events, damages, path)
    if events and not any(event["event"] == "sweep" for event in events):
        events.insert(0, replay(events).header.event)
    mended = b"".join(encode(event) for event in events)
    if mended == content:
        return []
    corrupt = [damage for damage in damages if not damage.torn]
    if corrupt:
        with (folder / QUARANTINE).open("ab") as quarantine:
            for damage in corrupt:
                quarantine.write(b"line %d: " % damage.line + damage.content + b"\n")
            quarantine.flush()
            os.fsync(quarantine.fileno())
    with replacing(path) as partial:
        partial.write_bytes(mended)
    return damages
