"""The cache folder: locks so that one process at a time creates an entry, and the removal of old entries."""

from __future__ import annotations

import fcntl
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from gaptune.errors import UserError
from gaptune.storage.atomic import PARTIAL
from gaptune.storage.lock import held, waiting_for
from gaptune.text.words import size

STORES = "stores"
"""Folder of copies of data stores, in the cache folder."""

BUILT = "built"
"""Folder of data stores that were built on first use, in the cache folder."""

_SPARE = 2**30
"""Bytes that a new entry leaves free on the disk."""

_used: dict[Path, int] = {}
"""Entries that this process uses, with the open files that hold their locks."""


@dataclass(frozen=True)
class Entry:
    """A data store in the cache.

    Attributes:
        path: Its folder.
        bytes: Size of its files.
        used: When it was last opened, in seconds since 1970.
        in_use: Whether a process of this machine uses it or makes it.
    """

    path: Path
    bytes: int
    used: float
    in_use: bool

    @property
    def unfinished(self) -> bool:
        """Whether it is an interrupted copy, which the next attempt continues."""
        return PARTIAL in self.path.name


def cache_folder() -> Path:
    """The folder for files that gaptune can recreate: ``GAPTUNE_CACHE``, else ``~/.cache/gaptune``."""
    cache = os.environ.get("GAPTUNE_CACHE")
    return Path(cache) if cache else Path.home() / ".cache" / "gaptune"


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds the lock of a path in the cache: one process creates the entry while the others wait.

    Args:
        path: Cache entry to create; its parent folder is created.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with waiting_for(_lock_of(path)):
        yield


def use(path: Path) -> None:
    """Notes that this process uses an entry, which is not removed before the process has ended.

    Args:
        path: The entry, whose lock is held.
    """
    with suppress(OSError):  # a cache that may only be read
        os.utime(path)
    if path not in _used:
        _used[path] = os.open(path, os.O_RDONLY)
        with suppress(OSError):  # a file system without such locks: nobody can remove it
            fcntl.flock(_used[path], fcntl.LOCK_SH)


def entries() -> list[Entry]:
    """The data stores in the cache, the one that was used last at the end."""
    found = [path for kind in (STORES, BUILT) for path in (cache_folder() / kind).glob("*") if path.is_dir()]
    return sorted((_entry(path) for path in found), key=lambda entry: entry.used)


def removable(found: Iterable[Entry], *, most: int | None = None, before: float | None = None) -> list[Entry]:
    """The entries to remove, those that were not used for the longest time first; none that is in use.

    Args:
        found: Entries, in the order of ``entries``.
        most: Bytes that all entries together may have; None for any.
        before: Time in seconds since 1970; an entry that was not used since is removed. None for any.
    """
    found = list(found)
    total, chosen = sum(entry.bytes for entry in found), []
    for entry in found:
        old = before is not None and entry.used < before
        if not entry.in_use and (old or (most is not None and total > most)):
            chosen.append(entry)
            total -= entry.bytes
    return chosen


def remove(entry: Entry) -> bool:
    """Removes an entry from the cache, unless it has come into use.

    Returns:
        Whether it was removed.
    """
    path = entry.path
    if _in_making(path):
        return False
    with locked(_whole(path)):
        if _in_use(path):
            return False
        gone = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}{PARTIAL}")
        path.rename(gone)  # at once: a process that looks for it now makes it anew
    shutil.rmtree(gone, ignore_errors=True)
    return True


def free_space(needed: int, what: str) -> None:
    """Removes copies of data stores that were not used for the longest time, until the disk has space for a new one.

    Args:
        needed: Bytes of the new one.
        what: The new one, for the message.

    Raises:
        UserError: The space is not enough without those that are in use.
    """
    folder = cache_folder()
    old = [entry for entry in entries() if entry.path.parent.name == STORES and not entry.in_use]
    while (free := shutil.disk_usage(folder).free) < needed + _SPARE:
        if not old:
            raise UserError(
                f"not enough disk space for {what}: it takes {size(needed)}, and {size(free)} are free in {folder}; "
                "remove other files (`gaptune data cache` shows what gaptune keeps there), or set GAPTUNE_CACHE to "
                "another disk"
            )
        remove(old.pop(0))


def _entry(path: Path) -> Entry:
    files = [file.stat() for file in path.rglob("*") if file.is_file()]
    return Entry(path, sum(file.st_size for file in files), path.stat().st_mtime, _in_making(path) or _in_use(path))


def _in_making(path: Path) -> bool:
    return held(_lock_of(_whole(path)))


def _in_use(path: Path) -> bool:
    """Whether a process uses an entry, or nobody can know."""
    file = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(file)
    return False


def _whole(path: Path) -> Path:
    """The entry that a copy becomes when it is whole."""
    return path.with_name(path.name.partition(".")[0])


def _lock_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.lease")
