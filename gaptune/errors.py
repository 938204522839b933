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
    close = difflib.get_close_matches(str(name), names, n=1, cutoff=0.5)
    if not close:  # a bare leaf such as "tau_end" is near "temperature.tau_end" in meaning, if not in letters
        leaf = str(name).rsplit(".", 1)[-1]
        leaves = {known_name.rsplit(".", 1)[-1]: known_name for known_name in names}
        close = [leaves[near] for near in difflib.get_close_matches(leaf, leaves, n=1, cutoff=0.6)]
    if close:
        return f" (did you mean {close[0]!r}?)"
    return f" (known: {', '.join(names)})" if 0 < len(names) <= 12 else ""
