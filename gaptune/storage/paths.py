"""Paths to write to, checked before work starts."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Collection
from pathlib import Path

from gaptune.errors import UserError

_LONGEST_NAME, _LONGEST_PATH = 255, 4096  # bytes
_LONGEST_INSIDE = 256  # bytes of a path inside a folder of gaptune's


def local_path(text: str | Path) -> Path:
    """A path on this machine, with ``~`` as a shell would expand it.

    Raises:
        UserError: It is a URL, or there is no such user.
    """
    if "://" in str(text):
        raise UserError(f"{text}: expected a path on this machine, not a URL")
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise UserError(f"{text}: there is no such user") from None


def check_folder(folder: Path, what: str) -> int:
    """Checks that files can be written into a folder, which need not exist; nothing is left behind.

    Args:
        folder: The folder.
        what: What names it, such as an option, for the message.

    Returns:
        Free bytes there.

    Raises:
        UserError: It cannot be made or written to, its name or path is too long, or it has an unexpanded ``~``.
    """
    if "~" in folder.parts:
        raise UserError(f"{what}: {folder} has a ~ that no shell has expanded; write out the home directory")
    name = next((part for part in reversed(folder.parts) if len(os.fsencode(part)) > _LONGEST_NAME), None)
    if name is not None:
        raise UserError(f"{what}: a folder's name may have {_LONGEST_NAME} bytes, not {len(os.fsencode(name))}: {name}")
    length = len(os.fsencode(folder.absolute()))
    if length > _LONGEST_PATH - _LONGEST_INSIDE:
        raise UserError(f"{what}: the path of {folder.name} is too long: {length:,} bytes")
    try:
        there = next(one for one in (folder, *folder.parents) if os.path.lexists(one))
        with tempfile.TemporaryDirectory(prefix=".gaptune-", dir=there) as trial:
            (Path(trial) / folder.relative_to(there)).mkdir(parents=True, exist_ok=True)
        return shutil.disk_usage(there).free
    except (OSError, ValueError) as error:  # ValueError: a NUL in it
        raise UserError(f"{what}: cannot write to {folder}: {error_text(error)}") from None


def check_file(path: Path, what: str, endings: Collection[str] = ()) -> None:
    """Checks that a file can be written where a person wants it.

    Args:
        path: The file.
        what: The option that names it.
        endings: Those that its name may have; none for any.

    Raises:
        UserError: It has another ending, its folder does not exist, or nothing can be written there.
    """
    if endings and path.suffix.lower() not in endings:
        raise UserError(f"{what} {path}: expected a name that ends with {' or '.join(endings)}")
    try:
        there, taken = path.parent.is_dir(), path.is_dir()
    except (OSError, ValueError) as error:  # its name is too long, or has a NUL
        raise UserError(f"{what} {path}: {error_text(error)}") from None
    if not there:
        raise UserError(f"{what} {path}: there is no folder {path.parent}")
    if taken:
        raise UserError(f"{what} {path}: it is a folder")
    check_folder(path.parent, what)


def is_full(error: OSError) -> bool:
    """Whether a write failed because there is no room, which is nobody's bad input."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def error_text(error: Exception) -> str:
    """Why something could not be written, in the system's own words."""
    return (getattr(error, "strerror", None) or str(error)).lower()
