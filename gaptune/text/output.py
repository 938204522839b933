"""Standard output and standard error that take any text and never raise: what is printed must not end what is done.

Names, reasons and paths are data. Control characters in them are shown escaped, so that none reaches the terminal, and
what a stream cannot encode is replaced. A closed pipe, a full disk or a missing stream is noted and passed over.
"""

from __future__ import annotations

import codecs
import errno
import io
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO, TextIO

# Control characters but for newline and tab; marks that reorder text, or break lines; halves of surrogate pairs.
_HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
_PLAIN = str.maketrans(
    {"·": "-", "…": "...", "±": "+-", "−": "-", "–": "-", "→": "->", "↑": "^", "↓": "v", "×": "x", "²": "2"}
    | {"τ": "tau", "β": "beta", "ν": "nu", "ρ": "rho", "Δ": "Delta", "≤": "<=", "≥": ">="}
    | dict(zip("▁▂▃▄▅▆▇█", "_.:-=+*#", strict=True))
)


def printable(text: str) -> str:
    """A text with its control characters escaped; newlines and tabs are kept."""
    return _HIDDEN.sub(_escaped, text)


def one_line(text: str) -> str:
    """A text with its control characters escaped, newlines and tabs too."""
    return re.sub(r"[\n\t]", _escaped, printable(text))


def encodable(text: str, encoding: str) -> str:
    """A text with what an encoding lacks replaced by plain characters, or by ``?``."""
    if text.isascii():
        return text
    return text.encode(encoding, _REPLACING).decode(encoding)


class Stream(io.TextIOBase):
    """A text stream over another that takes whatever is written, also when the other no longer does.

    Args:
        file: Where to write; None for nowhere.
    """

    def __init__(self, file: TextIO | None) -> None:
        self._file = file
        self._loss: Exception | None = None
        self._told = False

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The encoding of the stream below."""
        return getattr(self._file, "encoding", None) or "utf-8"

    @property
    def buffer(self) -> BinaryIO:
        """The bytes below, in which click hands to a shell what completes a word."""
        buffer: BinaryIO = getattr(self._file, "buffer", None) or io.BytesIO()
        return buffer

    def write(self, text: str) -> int:
        """Writes what the stream below can take."""
        if self._file is not None and self._loss is None:
            try:
                self._file.write(encodable(text, self.encoding))
            except (OSError, ValueError) as error:  # ValueError: it is closed
                self._loss = error
        return len(text)

    def flush(self) -> None:
        """Hands on what was written."""
        if self._file is not None and self._loss is None:
            try:
                self._file.flush()
            except (OSError, ValueError) as error:
                self._loss = error

    def isatty(self) -> bool:
        """Whether the stream below is a terminal."""
        with suppress(OSError, ValueError):
            return self._file is not None and self._file.isatty()
        return False

    def writable(self) -> bool:
        """Always."""
        return True

    def fileno(self) -> int:
        """The descriptor of the stream below, if it has one."""
        if self._file is None:
            raise io.UnsupportedOperation("no descriptor")
        return self._file.fileno()

    @property
    def lost(self) -> bool:
        """Whether the stream below no longer takes anything."""
        return self._loss is not None

    def settle(self) -> None:
        """Hands on what was written; where that fails, for good, so that the interpreter's own last try does not."""
        self.flush()
        if self._loss is not None and self._file is not None:
            with suppress(OSError, ValueError):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, self._file.fileno())
                os.close(nowhere)

    def loss(self) -> Exception | None:
        """Why the stream no longer takes anything: said once, to the first who asks; else None."""
        if self._told or self._loss is None:
            return None
        self._told = True
        return self._loss


def echo(text: str, *, err: bool = False) -> None:
    """Prints a text as it is, but for control characters, which are escaped.

    Args:
        text: Lines to print; a newline follows.
        err: Print to standard error.
    """
    stream = guarded(sys.stderr if err else sys.stdout)
    stream.write(f"{printable(text)}\n")
    stream.flush()


def guarded(file: TextIO | None) -> Stream:
    """A stream that does not raise, over one that may."""
    return file if isinstance(file, Stream) else Stream(file)


@contextmanager
def guarded_process() -> Iterator[tuple[Stream, Stream]]:
    """Makes all that this process prints go through a ``Stream``, whoever prints it; for a command line.

    A standard stream that was closed is opened on ``os.devnull``: a file opened later would else take its number, and
    with it whatever libraries write there.

    Yields:
        Standard output and standard error.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    before = sys.stdout, sys.stderr
    output = guarded(sys.stdout or open(1, "w", closefd=False))  # noqa: SIM115
    errors = guarded(sys.stderr or open(2, "w", closefd=False))  # noqa: SIM115
    sys.stdout, sys.stderr = output, errors
    try:
        yield output, errors
    finally:
        sys.stdout, sys.stderr = before
        for stream in (output, errors):
            stream.settle()


def is_closed_pipe(error: Exception) -> bool:
    """Whether a stream was lost because its reader has gone, as ``| head`` does."""
    return isinstance(error, OSError) and error.errno == errno.EPIPE


def _escaped(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode("ascii")


def _replace(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    part = error.object[error.start : error.end].translate(_PLAIN)
    return "".join(one if one.isascii() else "?" for one in part), error.end


_REPLACING = "gaptune.replace"
codecs.register_error(_REPLACING, _replace)
