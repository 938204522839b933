"""Files that are written whole or not at all: under another name, to disk, and then renamed."""

from __future__ import annotations

import os
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from gaptune.errors import UserError
from gaptune.storage.paths import error_text, is_full

PARTIAL = ".partial"
"""Ending of a file that is being written."""

_STALE_S = 3600.0  # no file takes an hour to write: its writer is dead


@contextmanager
def replacing(path: Path, *, ending: str = PARTIAL) -> Iterator[Path]:
    """Another name to write a file under, which takes the file's place once the disk has all of it.

    Whatever goes wrong, the file stays as it was and nothing of the other one is left; only a killed process leaves
    it, and the next ``remove_stale`` removes it.

    Args:
        path: The file; its folder exists.
        ending: Ending of the other name, for writers that choose a format by it.

    Yields:
        The other name, which no other process has, on another machine either.

    Raises:
        OSError: The disk is full, say.
    """
    other = path.with_name(f".{path.name[-100:]}.{os.getpid()}-{uuid.uuid4().hex[:8]}{ending}")
    try:
        yield other
        _sync(other)
        if path.exists() and not path.is_file():  # /dev/stdout, a pipe: it stays where it is
            with other.open("rb") as source, path.open("wb") as target:
                shutil.copyfileobj(source, target)
        else:
            other.replace(path)
    finally:
        with suppress(OSError):
            other.unlink(missing_ok=True)


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """``replacing`` for a file that a person asked for.

    Args:
        path: The file; what a link points to is replaced, not the link.

    Yields:
        Another name to write it under, with the same ending.

    Raises:
        UserError: It cannot be written.
        OSError: The disk is full, which is no bad input.
    """
    path = path.resolve()
    try:
        with replacing(path, ending=path.suffix) as other:
            yield other
    except OSError as error:
        if is_full(error):
            raise
        raise UserError(f"cannot write {path}: {error_text(error)}") from None


def remove_stale(folder: Path) -> None:
    """Removes what killed writers have left in a folder; a file that was touched lately may be another's."""
    for path in folder.glob(f"*{PARTIAL}"):
        with suppress(FileNotFoundError):  # the other one has finished, or cleans up too
            if time.time() - path.stat().st_mtime > _STALE_S:
                path.unlink()


def _sync(path: Path) -> None:
    """Waits until the disk has a file."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
