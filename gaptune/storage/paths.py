"""Checks, before work starts, that paths can be written."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Collection
from pathlib import Path

from gaptune.errors import UserError

_LONGEST_NAME, _LONGEST_PATH = 255, 4096  # bytes
_LONGEST_INSIDE = 256  # bytes reserved for paths inside a folder that gaptune writes


def local_path(text: str | Path) -> Path:
    """A local path with ``~`` expanded.

    Raises:
        UserError: It is a URL, or the user after ``~`` does not exist.
    """
    if "://" in str(text):
        raise UserError(f"{text}: expected a path on this machine, not a URL")
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise UserError(f"{text}: no such user") from None


def check_folder(folder: Path, what: str) -> int:
    """Checks that files can be written to a folder, which need not exist. Leaves no files behind.

    Args:
        folder: The folder.
        what: Source of the path for the error message, such as an option.

    Returns:
        Free space in bytes.

    Raises:
        UserError: The folder cannot be created or written to, its name or path is too long, or it has an unexpanded
            ``~``.
    """
    if "~" in folder.parts:
        raise UserError(f"{what}: {folder} contains an unexpanded ~; write the full path of the home directory")
    name = next((part for part in reversed(folder.parts) if len(os.fsencode(part)) > _LONGEST_NAME), None)
    if name is not None:
        raise UserError(
            f"{what}: folder name too long ({len(os.fsencode(name))} bytes, at most {_LONGEST_NAME}): {name}"
        )
    length = len(os.fsencode(folder.absolute()))
    if length > _LONGEST_PATH - _LONGEST_INSIDE:
        raise UserError(f"{what}: the path of {folder.name} is too long: {length:,} bytes")
    try:
        there = next(one for one in (folder, *folder.parents) if os.path.lexists(one))
        with tempfile.TemporaryDirectory(prefix=".gaptune-", dir=there) as trial:
            (Path(trial) / folder.relative_to(there)).mkdir(parents=True, exist_ok=True)
        return shutil.disk_usage(there).free
    except (OSError, ValueError) as error:  # ValueError: the path has a NUL character
        raise UserError(f"{what}: cannot write to {folder}: {error_text(error)}") from None


def check_file(path: Path, what: str, endings: Collection[str] = ()) -> None:
    """Checks that a file can be written.

    Args:
        path: The file.
        what: Option that names the file, for the error message.
        endings: Allowed endings of the file name; empty if all are allowed.

    Raises:
        UserError: The ending is not allowed, the folder does not exist, or the folder cannot be written to.
    """
    if endings and path.suffix.lower() not in endings:
        raise UserError(f"{what} {path}: expected a name that ends with {' or '.join(endings)}")
    try:
        there, taken = path.parent.is_dir(), path.is_dir()
    except (OSError, ValueError) as error:  # the name is too long, or has a NUL character
        raise UserError(f"{what} {path}: {error_text(error)}") from None
    if not there:
        raise UserError(f"{what} {path}: there is no folder {path.parent}")
    if taken:
        raise UserError(f"{what} {path}: is a folder, expected a file")
    check_folder(path.parent, what)


def is_full(error: OSError) -> bool:
    """Whether a write failed because the disk is full, which is not the user's error."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def error_text(error: Exception) -> str:
    """The operating system's message for a failed write, in lower case."""
    return (getattr(error, "strerror", None) or str(error)).lower()
