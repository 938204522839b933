"""A sweep's ledger in its storage, so that another machine can resume it.

Object storage cannot append to a file. So the ledger is stored in parts, ``ledger/000000000000.jsonl`` and so on, named
by their first byte; only the last part is sent repeatedly as it grows. ``cat ledger/*.jsonl`` is the ledger.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path

from gaptune.errors import UserError, first_line
from gaptune.ledger import FILE_NAME, Event, Ledger, encode, parse_events, replay
from gaptune.ledger.file import QUARANTINE, check_readable
from gaptune.ledger.header import SweepHeader
from gaptune.storage.folder import Folder

_PARTS = "ledger"
_PART_BYTES = 256 * 1024
_TELLING = ("session", "end", "pause", "done")
_AGAIN_S = 10.0
_PATIENCE_S = 60.0

_log = logging.getLogger(__name__)


class Backup:
    """Copies the ledger to the storage whenever a trial has ended, in a thread of its own.

    A storage that is unreachable delays the copy and nothing else.

    Args:
        place: The sweep's folder in the storage.
        folder: The sweep's folder here.
        say: Called with a line for the user, once when copying fails and once when it works again.
    """

    def __init__(self, place: Folder, folder: Path, say: Callable[[str], None]) -> None:
        self._place = place
        self._file = folder / FILE_NAME
        self._say = say
        self._start: int | None = None  # where the part begins that is still growing; None: not known yet
        self._sent = -1  # how much of the ledger the storage has
        self._news = threading.Event()
        self._closing = threading.Event()
        self._behind = False
        self._thread = threading.Thread(target=self._work, name="ledger backup", daemon=True)
        self._thread.start()

    def __call__(self, event: Event) -> None:
        """Takes an event of the ledger."""
        if event["event"] in _TELLING:
            self._news.set()

    def close(self) -> bool:
        """Copies a last time, for as long as a minute; returns whether the storage now has the whole ledger."""
        patience = 0.0 if self._closing.is_set() else _PATIENCE_S
        self._closing.set()
        self._news.set()
        self._thread.join(patience)
        return not self._thread.is_alive() and not self._behind

    def _work(self) -> None:
        while True:
            self._news.wait(_AGAIN_S if self._behind else None)
            last = self._closing.is_set()
            self._news.clear()
            try:
                self._copy()
            except Exception as error:  # a storage's client may raise anything
                if not self._behind:
                    why = first_line(error)
                    self._say(f"the ledger could not be copied to {self._place.url} ({why}); it will be retried")
                    _log.debug("the ledger could not be copied", exc_info=True)
                self._behind = True
            else:
                if self._behind:
                    self._say(f"the ledger is in {self._place.url} again")
                self._behind = False
            if last:
                return

    def _copy(self) -> None:
        if self._start is None:
            self._start = self._first_difference()
        with self._file.open("rb") as file:
            file.seek(self._start)
            content = _whole_lines(file.read())
        while content and self._start + len(content) > self._sent:
            part = content[:_PART_BYTES] if len(content) > _PART_BYTES else content
            part = content[: content.index(b"\n", len(part) - 1) + 1]
            self._place.write(f"{_PARTS}/{self._start:012d}.jsonl", part)
            if len(part) < _PART_BYTES:
                self._sent = self._start + len(part)
                return
            self._start, content = self._start + len(part), content[len(part) :]
            self._sent = self._start

    def _first_difference(self) -> int:
        """Where sending has to begin; what the storage has beyond that is not of this ledger, and is removed."""
        here, at = self._file.read_bytes(), 0
        for start, name in _parts(self._place):
            part = self._place.read(name) or b""
            if start == at and len(part) >= _PART_BYTES and here[at : at + len(part)] == part:
                at += len(part)
            elif start != at:
                self._place.delete(name)
        if FILE_NAME in self._place.names():  # written as one file by an earlier gaptune
            self._place.write(f"{_PARTS}/{at:012d}.jsonl", _whole_lines(here[at:]))
            self._place.delete(FILE_NAME)
        return at


def stored_ledger(place: Folder) -> bytes:
    """The ledger in a storage; empty if there is none.

    Raises:
        UserError: The storage cannot be read.
    """
    try:
        content = b""
        for start, name in _parts(place):
            if start == len(content):
                content += place.read(name) or b""
        return content or place.read(FILE_NAME) or b""
    except Exception as error:  # a storage's client may raise anything
        raise UserError(f"cannot read the sweep's storage {place.url}: {first_line(error)}") from error


def newer_ledger(place: Folder, folder: Path) -> bytes | None:
    """The ledger in a storage, if it has more lines than the local one.

    Damaged lines of either are replaced by the other's.

    Args:
        place: The sweep's folder in the storage.
        folder: The sweep's folder here.

    Returns:
        The new content of the local ledger; None if it stays as it is.

    Raises:
        UserError: The storage cannot be read, has another sweep of this name, or the two have diverged.
    """
    there, file = stored_ledger(place), folder / FILE_NAME
    here = file.read_bytes() if file.exists() else b""
    if not there or here.startswith(_whole_lines(there)):
        return None
    events, damages = parse_events(there)
    check_readable(events, damages, Path(f"{place.url}/{_PARTS}"))
    mine, lost = parse_events(here)
    _check_same(replay(events).header, replay(mine).header, place, folder)
    stored, kept = [encode(event) for event in events], [encode(event) for event in mine]
    only_there, only_here = set(stored) - set(kept), set(kept) - set(stored)
    if not only_there:
        return None
    if only_here:
        quarantine = folder / QUARANTINE
        damaged = len(lost) + (quarantine.read_bytes().count(b"\n") if quarantine.exists() else 0)
        since = kept[-len(only_here) :]
        if len(only_there) > damaged or not only_here.issuperset(since):
            raise UserError(
                f"{file} and {place.url} have diverged: two machines ran {folder.name!r} at the same time; "
                "delete the copy that you do not want to keep"
            )
        stored += since
    return b"".join(stored)


def fetch_ledger(place: Folder, folder: Path) -> None:
    """Brings the local ledger of a sweep to the state of its storage; creates it if there is none.

    Args:
        place: The sweep's folder in the storage.
        folder: The sweep's folder here.

    Raises:
        UserError: Neither has a ledger, the two differ in more than their length, or another process runs the sweep.
    """
    content = newer_ledger(place, folder)
    if content is None:
        if not (folder / FILE_NAME).exists():
            raise UserError(f"no sweep {folder.name!r} in {place.url.rpartition('/')[0]}")
        return
    ledger = Ledger(folder)
    ledger.replace(content)
    ledger.close()


def _check_same(there: SweepHeader, here: SweepHeader, place: Folder, folder: Path) -> None:
    if there.name != folder.name:
        raise UserError(f"{place.url} holds the ledger of another sweep, {there.name!r}; give another --storage")
    if here and here.id != there.id:
        raise UserError(f"{place.url} holds another sweep named {folder.name!r}; give this one another --name")


def _parts(place: Folder) -> list[tuple[int, str]]:
    names = place.names(_PARTS)
    return sorted((int(stem), f"{_PARTS}/{name}") for name in names if (stem := name.removesuffix(".jsonl")).isdigit())


def _whole_lines(content: bytes) -> bytes:
    return content[: content.rfind(b"\n") + 1]
