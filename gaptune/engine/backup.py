"""A sweep's ledger in its storage, so that another machine can go on with it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from gaptune.errors import UserError
from gaptune.ledger import FILE_NAME, Event
from gaptune.remote import Folder

_TELLING = ("session", "end", "pause", "done")
_AGAIN_S = 10.0


class Backup:
    """Copies the ledger to the storage whenever a trial has ended, in a thread of its own.

    A storage that does not answer delays the copy and nothing else.

    Args:
        place: The sweep's folder in the storage.
        folder: The sweep's folder here.
        say: Tells a person, once, when copying fails, and when it works again.
    """

    def __init__(self, place: Folder, folder: Path, say: Callable[[str], None]) -> None:
        self._place = place
        self._file = folder / FILE_NAME
        self._say = say
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
        """Copies a last time; returns whether the storage now has the whole ledger."""
        self._closing.set()
        self._news.set()
        self._thread.join()
        return not self._behind

    def _work(self) -> None:
        while True:
            self._news.wait(_AGAIN_S if self._behind else None)
            last = self._closing.is_set()
            self._news.clear()
            self._copy()
            if last:
                return

    def _copy(self) -> None:
        try:
            self._place.put(self._file, FILE_NAME)
        except OSError as fault:
            if not self._behind:
                self._say(f"the ledger could not be copied to {self._place.url} ({fault}); it will be tried again")
            self._behind = True
        else:
            if self._behind:
                self._say(f"the ledger is in {self._place.url} again")
            self._behind = False


def newer_ledger(place: Folder, folder: Path) -> bytes | None:
    """The ledger in a storage, if it knows more than the one here.

    Raises:
        UserError: Each of the two knows what the other does not, or the storage cannot be read.
    """
    file = folder / FILE_NAME
    try:
        there = _whole_lines(place.read(FILE_NAME) or b"")
    except OSError as fault:
        raise UserError(f"cannot read the sweep's storage {place.url}: {fault}") from None
    here = _whole_lines(file.read_bytes()) if file.exists() else b""
    if here.startswith(there):
        return None
    if there.startswith(here):
        return there
    raise UserError(
        f"{file} and {place.url}/{FILE_NAME} have gone different ways: two machines have worked on {folder.name!r}; "
        "remove the one that is to be forgotten"
    )


def _whole_lines(content: bytes) -> bytes:
    return content[: content.rfind(b"\n") + 1]
