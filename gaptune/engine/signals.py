"""Handles Ctrl-C, SIGTERM and SIGHUP alike: as a request to stop in an orderly way."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_ONE_WISH_S = 1.0
"""Two signals within this time are one request: ``timeout``, shells and systemd send theirs twice."""


class Stopped(KeyboardInterrupt):
    """A signal has requested a stop.

    Args:
        signum: The signal.

    Attributes:
        exit_code: Exit code that a shell expects from a program ended by this signal.
    """

    def __init__(self, signum: int) -> None:
        name = signal.Signals(signum).name
        super().__init__("interrupted" if signum == signal.SIGINT else f"stopped by {name}")
        self.exit_code = 128 + signum


class Stop:
    """Whether a stop has been requested.

    Attributes:
        signum: The signal that requested it; None before any.
    """

    def __init__(self) -> None:
        self.signum: int | None = None
        self._at = 0.0
        self._held = False
        self._before: dict[signal.Signals, signal._HANDLER] = {}
        self._terminals = [fd for fd in (1, 2) if os.isatty(fd)]

    @contextmanager
    def held(self) -> Iterator[None]:
        """A context in which a signal is only noted; only ``check`` raises.

        An exception between any two instructions is harmless while Ray starts, but not while an event is recorded.
        """
        self._held = True
        try:
            yield
        finally:
            self._held = False

    def check(self) -> None:
        """Raises if a stop has been requested.

        Raises:
            Stopped: A stop has been requested.
        """
        if self.signum is not None:
            raise Stopped(self.signum)

    def listen(self) -> None:
        """Installs the handlers, again if a library has replaced them; does nothing outside the main thread."""
        if threading.current_thread() is not threading.main_thread():
            return
        for signum in (*_ENDING, signal.SIGUSR1):  # Ray Tune leaves a handler for the last one behind
            now = signal.getsignal(signum)
            self._before.setdefault(signum, now)
            ignored = self._before[signum] in (signal.SIG_IGN, None)  # by nohup, or in a shell's background
            if signum in _ENDING and not ignored:
                signal.signal(signum, self._on_signal)

    def restore(self) -> None:
        """Restores the handlers from before."""
        while self._before:
            signum, handler = self._before.popitem()
            if handler is not None:
                signal.signal(signum, handler)

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.signum is not None:
            if now - self._at > _ONE_WISH_S:  # a second request ends the process at once
                self.restore()
                signal.raise_signal(signum)
            return
        self.signum, self._at = signum, now
        self._leave_closed_terminals()
        if not self._held:
            self.check()

    def _leave_closed_terminals(self) -> None:
        """Discards further output if the terminal has closed: writing to it would be an error."""
        for fd in self._terminals:
            if not os.isatty(fd):
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, fd)
                os.close(null)


def exit_code(reason: str) -> int:
    """The exit code for a sweep that has stopped.

    Args:
        reason: The reason in its ledger.

    Returns:
        128 plus the signal if a signal was the reason, else 1.
    """
    return next((stop.exit_code for stop in map(Stopped, _ENDING) if str(stop) == reason), 1)


@contextmanager
def stopping() -> Iterator[Stop]:
    """A context that Ctrl-C, SIGTERM and SIGHUP stop: the first raises ``Stopped`` in it, the second kills the process.

    The earlier handlers are restored afterwards. Ignored signals stay ignored. Outside the main thread no handler is
    installed.
    """
    stop = Stop()
    stop.listen()
    try:
        yield stop
    finally:
        stop.restore()
