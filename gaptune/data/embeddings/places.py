"""Files as users name them: ``FILE`` or ``FILE:KEY``, and directories of numbered parts."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from gaptune.errors import UserError, did_you_mean

_NUMBER = re.compile(r"\d+")
_NAMED = 5  # rows in a message


class Place(NamedTuple):
    """A file or directory, and the array or column in it that is meant.

    Attributes:
        path: The file or directory.
        key: Name of the array or column; None where the user named none.
    """

    path: Path
    key: str | None

    @property
    def ending(self) -> str:
        """The ending of the file's name, in small letters."""
        return self.path.suffix.casefold()


def find_place(text: str) -> Place:
    """What ``FILE`` or ``FILE:KEY`` means.

    Raises:
        UserError: There is no such file, or it is empty.
    """
    path, key = Path(os.path.expanduser(text)), None  # noqa: PTH111  # Path's own raises for a user nobody knows
    if not path.exists():
        front, colon, back = text.rpartition(":")
        if not colon or not Path(os.path.expanduser(front)).exists():  # noqa: PTH111
            raise UserError(f"there is no file {Path(os.path.expanduser(front or text))}")  # noqa: PTH111
        path, key = Path(os.path.expanduser(front)), back  # noqa: PTH111
    if path.is_file() and not path.stat().st_size:
        raise UserError("is empty", file=path)
    return Place(path, key)


def parts_of(folder: Path, ending: str) -> list[Path]:
    """The files of a directory with an ending, by the numbers in their names: part 2 before part 10.

    Raises:
        UserError: There is none.
    """
    parts = [path for path in folder.iterdir() if path.suffix == ending and not path.name.startswith(".")]
    if not parts:
        raise UserError(f"has no {ending} files", file=folder)
    return sorted(parts, key=lambda path: ([int(number) for number in _NUMBER.findall(path.stem)], path.name))


def chosen(place: Place, names: Sequence[str], what: str) -> str:
    """The array or column that is meant: the named one, or the only one.

    Raises:
        UserError: There is none, several, or none of that name.
    """
    if place.key is not None:
        if place.key not in names:
            raise UserError(f"has no {what} {place.key!r}{did_you_mean(place.key, names)}", file=place.path)
        return place.key
    if len(names) != 1:
        found = f"holds {', '.join(names)}: choose one with FILE:NAME"
        raise UserError(found if names else f"has no {what}", file=place.path)
    return names[0]


def listed(rows: Iterable[int]) -> str:
    """Row numbers for a message, such as ``rows 3, 17 and 4 more (counted from 0)``."""
    numbers = [int(row) for row in rows]
    others = len(numbers) - _NAMED
    named = ", ".join(map(str, numbers[:_NAMED])) + (f" and {others} more" if others > 0 else "")
    return f"{'row' if len(numbers) == 1 else 'rows'} {named} (counted from 0)"
