"""The one exception for bad input, and the hint that goes with a misspelt name."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from pathlib import Path

from gaptune.text.renamed import current_name

_LONGEST = 2000  # characters of a message
_MOST_NAMES, _LONGEST_NAME = 1000, 300  # for which the nearest is looked for: it takes long, and helps nobody
_NEAR, _NEAR_ALONE = 0.55, 0.75
"""How alike two parts of names are that are likely the same, slipped; the second where one name has no group."""


class UserError(Exception):
    """Input that a person can mend: shown as one line, without a traceback, exit code 2.

    Args:
        message: What is wrong and what was expected.
        file: The file in which it stands.
        line: Its line there, counted from 1.
    """

    def __init__(self, message: str, *, file: Path | str | None = None, line: int | None = None) -> None:
        message = re.sub(
            r"\s*[\r\n\v\f\x1c-\x1e\x85\u2028\u2029]+\s*", " ", message
        )  # one line, whatever is quoted in it
        self.message = message if len(message) <= _LONGEST else f"{message[:_LONGEST]}…"
        self.file = file
        self.line = line
        where = "" if file is None else f"{file}:{line}: " if line else f"{file}: "
        super().__init__(where + message)


def brief(value: object, most: int = 80) -> str:
    """A value as Python writes it, cut short where it is long."""
    text = repr(value)
    return text if len(text) <= most else f"{text[: most - 1]}…"


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """A hint such as ``" (did you mean 'temperature.tau_end'?)"``, or all the names when there are few.

    Names are compared part by part (``temperature.tau_end``, ``geometry/gap``): one is near when each of its parts is.
    The last part is enough where the name has no others, or has it letter for letter in another group.

    Args:
        name: What was written.
        known: What would have been accepted.

    Returns:
        A text to append to an error message; empty when nothing is near and there are many names.
    """
    names = sorted(set(known))
    if len(names) > _MOST_NAMES or len(str(name)) > _LONGEST_NAME:
        return ""
    new = current_name(str(name))
    if new in names:
        return f" (it is called {new!r} now)"
    near = _nearest(str(name), names)
    if near is not None:
        return f" (did you mean {near!r}?)"
    return f" (known: {', '.join(names)})" if 0 < len(names) <= 12 else ""


def _nearest(name: str, known: list[str]) -> str | None:
    """The known name that is most like a name; None where none is like it."""
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
    """``temperature.tau_end`` and ``geometry/gap`` in two; a YAML file's ending says nothing of what it is."""
    return re.split(r"[./]", re.sub(r"\.ya?ml$", "", name.casefold()))


def _alike(one: str, other: str) -> float:
    if len(one) >= 3 and other.startswith(one):
        return 1.0 if one == other else 0.9  # cut short: "acc"
    return difflib.SequenceMatcher(None, one, other, autojunk=False).ratio()
