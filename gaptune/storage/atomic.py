"""Atomic writes: a file is written under a temporary name, synced to disk, and then renamed."""

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
"""Ending of temporary file names."""

_STALE_S = 3600.0  # writing a file never takes an hour: its writer is dead


@contextmanager
def replacing(path: Path, *, ending: str = PARTIAL) -> Iterator[Path]:
    """A temporary file that replaces another file once it is completely on disk.

    If anything fails, the file is unchanged and the temporary file is removed. Only a killed process leaves its
    temporary file behind; the next ``remove_stale`` removes it.

    Args:
        path: The file to replace or to create, in an existing folder.
        ending: Ending of the temporary name, for writers that choose a format by it.

    Yields:
        The temporary path, unique across processes and machines.

    Raises:
        OSError: For example, the disk is full.
    """
    other = path.with_name(f".{path.name[-100:]}.{os.getpid()}-{uuid.uuid4().hex[:8]}{ending}")
    try:
        yield other
        _sync(other)
        if path.exists() and not path.is_file():  # /dev/stdout or a pipe, which must not be replaced
            with other.open("rb") as source, path.open("wb") as target:
                shutil.copyfileobj(source, target)
        else:
            other.replace(path)
    finally:
        with suppress(OSError):
            other.unlink(missing_ok=True)


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Like ``replacing``, for a file that the user asked for.

    Args:
        path: The file; the target of a symbolic link is replaced, not the link.

    Yields:
        The temporary path, with the same ending.

    Raises:
        UserError: The file cannot be written.
        OSError: The disk is full, which is not the user's error.
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
    """Removes temporary files of killed writers from a folder. Recent ones stay: their writers may be running."""
    for path in folder.glob(f"*{PARTIAL}"):
        with suppress(FileNotFoundError):  # its writer has finished, or another process removed it
            if time.time() - path.stat().st_mtime > _STALE_S:
                path.unlink()


def _sync(path: Path) -> None:
    """Waits until a file is on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
