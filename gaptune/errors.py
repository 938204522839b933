"""The exception for invalid input, and the hint for a misspelled name."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from pathlib import Path

from gaptune.text.renamed import current_name

_LONGEST = 2000  # characters in a message
_MOST_NAMES, _LONGEST_NAME = 1000, 300  # above these, the search for the nearest name is slow and rarely helps
_NEAR, _NEAR_ALONE = 0.55, 0.75
"""Minimum similarity of two parts of names to suggest one for the other; the second if only one name has a group."""


class UserError(Exception):
    """An error in the user's input: printed as one line without a traceback, with exit code 2.

    Args:
        message: Description of the error and of what was expected.
        file: File with the error.
        line: Line number of the error in the file, from 1.
    """

    def __init__(self, message: str, *, file: Path | str | None = None, line: int | None = None) -> None:
        # One line, even if the message quotes text with line breaks.
        message = re.sub(r"\s*[\r\n\v\f\x1c-\x1e\x85\u2028\u2029]+\s*", " ", message)
        self.message = message if len(message) <= _LONGEST else f"{message[:_LONGEST]}…"
        self.file = file
        self.line = line
        where = "" if file is None else f"{file}:{line}: " if line else f"{file}: "
        super().__init__(where + message)


def brief(value: object, most: int = 80) -> str:
    """The ``repr`` of a value, truncated if it is long."""
    text = repr(value)
    return text if len(text) <= most else f"{text[: most - 1]}…"


def first_line(error: BaseException) -> str:
    """The first line of a library's message; the name of its type if it has none."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__).rstrip()


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """A hint such as ``" (did you mean 'temperature.tau_end'?)"``, or a list of all names if there are few.

    Names are compared part by part (``temperature.tau_end``, ``geometry/gap``): a name is near if all its parts are.
    The last part is enough if the name has no other, or if the last parts are equal in different groups.

    Args:
        name: The unknown name.
        known: Accepted names.

    Returns:
        A text to append to an error message; empty if no name is near and there are many names.
    """
    names = sorted(set(known))
    if len(names) > _MOST_NAMES or len(str(name)) > _LONGEST_NAME:
        return ""
    new = current_name(str(name))
    if new in names:
        return f" (renamed to {new!r})"
    near = _nearest(str(name), names)
    if near is not None:
        return f" (did you mean {near!r}?)"
    return f" (known: {', '.join(names)})" if 0 < len(names) <= 12 else ""


def _nearest(name: str, known: list[str]) -> str | None:
    """The known name most similar to a name; None if none is similar enough."""
    parts = _parts(name)
    likeness: dict[str, float] = {}
    for one in known:
        theirs = _parts(one)
        shared = min(len(parts), len(theirs))
        alike = [_alike(a, b) for a, b in zip(parts[-shared:], theirs[-shared:], strict=True)]
        near = _NEAR if len(parts) == len(theirs) else _NEAR_ALONE
        if parts[-1] == theirs[-1] or min(alike) >= near:
            likeness[one] = sum(alike) / len(alike) - 0.1 * (len(parts) != len(theirs))
    return max(likeness, key=likeness.__getitem__, default=None)


def _parts(name: str) -> list[str]:
    """``temperature.tau_end`` and ``geometry/gap`` in two parts each; without the ending of a YAML file."""
    return re.split(r"[./]", re.sub(r"\.ya?ml$", "", name.casefold()))


def _alike(one: str, other: str) -> float:
    if len(one) >= 3 and other.startswith(one):
        return 1.0 if one == other else 0.9  # an abbreviation such as "acc"
    return difflib.SequenceMatcher(None, one, other, autojunk=False).ratio()
