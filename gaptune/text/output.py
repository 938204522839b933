"""Standard output and standard error that accept any text and never raise, so that printing cannot end a sweep.

Control characters in names, error messages and paths are printed escaped, and characters that a stream cannot encode
are replaced. A closed pipe, a full disk or a missing stream is recorded and otherwise ignored.
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

# Control characters except newline and tab, characters that reorder text or break lines, and lone surrogates.
_HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
_PLAIN = str.maketrans(
    {"·": "-", "…": "...", "±": "+-", "−": "-", "–": "-", "→": "->", "↑": "^", "↓": "v", "×": "x", "²": "2"}
    | {"τ": "tau", "β": "beta", "ν": "nu", "ρ": "rho", "Δ": "Delta", "≤": "<=", "≥": ">="}
    | dict(zip("▁▂▃▄▅▆▇█", "_.:-=+*#", strict=True))
)


def printable(text: str) -> str:
    """Text with control characters escaped, except newlines and tabs."""
    return _HIDDEN.sub(_escaped, text)


def one_line(text: str) -> str:
    """Text with all control characters escaped, including newlines and tabs."""
    return re.sub(r"[\n\t]", _escaped, printable(text))


def encodable(text: str, encoding: str) -> str:
    """Text in which characters that an encoding lacks are replaced by ASCII characters or ``?``."""
    if text.isascii():
        return text
    return text.encode(encoding, _REPLACING).decode(encoding)


class Stream(io.TextIOBase):
    """A text stream that wraps another and ignores its write errors.

    Args:
        file: Stream to write to; None to discard the text.
    """

    def __init__(self, file: TextIO | None) -> None:
        self._file = file
        self._loss: Exception | None = None
        self._told = False

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """Encoding of the wrapped stream."""
        return getattr(self._file, "encoding", None) or "utf-8"

    @property
    def buffer(self) -> BinaryIO:
        """The binary stream, to which click writes shell completions; hidden otherwise.

        Click passes by a stream that has one if the encoding is ASCII, and writes UTF-8 instead.
        """
        if "_GAPTUNE_COMPLETE" not in os.environ:
            raise AttributeError("buffer")
        buffer: BinaryIO = getattr(self._file, "buffer", None) or io.BytesIO()
        return buffer

    def write(self, text: str) -> int:
        """Writes text, with characters replaced that the wrapped stream cannot encode."""
        if self._file is not None and self._loss is None:
            try:
                self._file.write(encodable(text, self.encoding))
            except (OSError, ValueError) as error:  # ValueError: the stream is closed
                self._loss = error
        return len(text)

    def flush(self) -> None:
        """Flushes the wrapped stream."""
        if self._file is not None and self._loss is None:
            try:
                self._file.flush()
            except (OSError, ValueError) as error:
                self._loss = error

    def isatty(self) -> bool:
        """Whether the wrapped stream is a terminal."""
        with suppress(OSError, ValueError):
            return self._file is not None and self._file.isatty()
        return False

    def writable(self) -> bool:
        """Always true."""
        return True

    def fileno(self) -> int:
        """File descriptor of the wrapped stream, if it has one."""
        if self._file is None:
            raise io.UnsupportedOperation("no descriptor")
        return self._file.fileno()

    @property
    def lost(self) -> bool:
        """Whether a write to the wrapped stream has failed."""
        return self._loss is not None

    def settle(self) -> None:
        """Flushes the wrapped stream. If that fails, discards its text, so that the flush at exit succeeds."""
        self.flush()
        if self._loss is not None and self._file is not None:
            with suppress(OSError, ValueError):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, self._file.fileno())
                os.close(nowhere)

    def loss(self) -> Exception | None:
        """The write error of the wrapped stream, if any. Returned only once; later calls return None."""
        if self._told or self._loss is None:
            return None
        self._told = True
        return self._loss


def echo(text: str, *, err: bool = False) -> None:
    """Prints text literally, with control characters escaped.

    Args:
        text: Lines to print; a newline is added.
        err: Whether to print to standard error.
    """
    stream = guarded(sys.stderr if err else sys.stdout)
    stream.write(f"{printable(text)}\n")
    stream.flush()


def guarded(file: TextIO | None) -> Stream:
    """The stream wrapped by ``Stream``, unless it is one already."""
    return file if isinstance(file, Stream) else Stream(file)


@contextmanager
def guarded_process() -> Iterator[tuple[Stream, Stream]]:
    """Redirects all output of this process through ``Stream``, for a command line.

    A closed standard stream is opened on ``os.devnull``. Otherwise a file opened later would get its descriptor, and
    receive whatever libraries write to it.

    Yields:
        Standard output and standard error.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free descriptor
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
    """Whether a write failed because the reader has closed the pipe, as ``| head`` does."""
    return isinstance(error, OSError) and error.errno == errno.EPIPE


def _escaped(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode("ascii")


def _replace(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    part = error.object[error.start : error.end].translate(_PLAIN)
    return "".join(one if one.isascii() else "?" for one in part), error.end


_REPLACING = "gaptune.replace"
codecs.register_error(_REPLACING, _replace)
