"""The one exception for bad input, and the hint that goes with a misspelt name."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from pathlib import Path

_LONGEST = 2000  # characters of a message
_MOST_NAMES, _LONGEST_NAME = 1000, 300  # for which the nearest is looked for: it takes long, and helps nobody


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

    Args:
        name: What was written.
        known: What would have been accepted.

    Returns:
        A text to append to an error message; empty when nothing is near and there are many names.
    """
    names = sorted(set(known))
    if len(names) > _MOST_NAMES or len(str(name)) > _LONGEST_NAME:
        return ""
    nearness = [_nearness(str(name), one) for one in names]
    if max(nearness, default=0.0) > 0:
        return f" (did you mean {names[nearness.index(max(nearness))]!r}?)"
    return f" (known: {', '.join(names)})" if 0 < len(names) <= 12 else ""


def _nearness(written: str, known: str) -> float:
    """How near two names are, 0 to 1; 0 where one is no likely slip for the other.

    A name such as ``temperature.tau_end`` or ``geometry/gap`` has a group. Of another group only the same name is near.
    """
    whole = difflib.SequenceMatcher(None, written, known).ratio()
    (group, leaf), (known_group, known_leaf) = _parts(written), _parts(known)
    groups = difflib.SequenceMatcher(None, group, known_group).ratio()
    leaves = difflib.SequenceMatcher(None, leaf, known_leaf).ratio()
    if bool(group) == bool(known_group):
        likely = (groups >= 0.7 and leaves >= 0.6) or leaf == known_leaf
    else:
        likely = leaves >= 0.75
    return max(whole, leaves / 2) if likely or whole >= 0.85 else 0.0


def _parts(name: str) -> tuple[str, str]:
    """Group and name in it, apart at the last dot or slash; the dot before a YAML file's ending is none."""
    stem, dot, ending = name.rpartition(".") if name.endswith((".yaml", ".yml")) else (name, "", "")
    at = max(stem.rfind("."), stem.rfind("/")) + 1
    return stem[:at], stem[at:] + dot + ending
