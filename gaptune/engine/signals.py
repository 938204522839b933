"""Ctrl-C, SIGTERM and SIGHUP as one thing: a wish that the work under way ends in order."""

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
"""Two signals that are nearer than this are one wish: ``timeout``, shells and systemd send theirs twice."""


class Stopped(KeyboardInterrupt):
    """The work was asked to end.

    Args:
        signum: The signal that asked.

    Attributes:
        exit_code: What a shell expects of a program that a signal has ended.
    """

    def __init__(self, signum: int) -> None:
        name = signal.Signals(signum).name
        super().__init__("interrupted" if signum == signal.SIGINT else f"stopped by {name}")
        self.exit_code = 128 + signum


class Stop:
    """Whether the work under way should end.

    Attributes:
        signum: The signal that asked for it; None while nobody has.
    """

    def __init__(self) -> None:
        self.signum: int | None = None
        self._at = 0.0
        self._held = False
        self._before: dict[signal.Signals, signal._HANDLER] = {}
        self._terminals = [fd for fd in (1, 2) if os.isatty(fd)]

    @contextmanager
    def held(self) -> Iterator[None]:
        """A context in which a signal is noted and nothing is raised but by ``check``.

        An exception between any two instructions is no danger while Ray starts, but it is in the middle of a record.
        """
        self._held = True
        try:
            yield
        finally:
            self._held = False

    def check(self) -> None:
        """Ends the work here if it should end.

        Raises:
            Stopped: It should.
        """
        if self.signum is not None:
            raise Stopped(self.signum)

    def listen(self) -> None:
        """Takes the signals over, again where a library has taken them; outside the main thread Python has none."""
        if threading.current_thread() is not threading.main_thread():
            return
        for signum in (*_ENDING, signal.SIGUSR1):  # the last one is Ray Tune's, which leaves its handler behind
            now = signal.getsignal(signum)
            self._before.setdefault(signum, now)
            ignored = self._before[signum] in (signal.SIG_IGN, None)  # by nohup, or a shell's background
            if signum in _ENDING and not ignored:
                signal.signal(signum, self._heard)

    def restore(self) -> None:
        """Gives the signals back as they were found."""
        while self._before:
            signum, handler = self._before.popitem()
            if handler is not None:
                signal.signal(signum, handler)

    def _heard(self, signum: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.signum is not None:
            if now - self._at > _ONE_WISH_S:  # asked again: at once, as if nobody listened
                self.restore()
                signal.raise_signal(signum)
            return
        self.signum, self._at = signum, now
        self._leave_closed_terminals()
        if not self._held:
            self.check()

    def _leave_closed_terminals(self) -> None:
        """Lets what is still printed go nowhere where a terminal has gone: writing to it would be an error."""
        for fd in self._terminals:
            if not os.isatty(fd):
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, fd)
                os.close(null)


def exit_code(reason: str) -> int:
    """The exit code for a sweep that has stopped.

    Args:
        reason: Why, as its ledger says.

    Returns:
        128 and the signal where it was one, else 1.
    """
    return next((stop.exit_code for stop in map(Stopped, _ENDING) if str(stop) == reason), 1)


@contextmanager
def stopping() -> Iterator[Stop]:
    """A context that Ctrl-C, SIGTERM and SIGHUP end in order: the first raises ``Stopped`` in it, the second kills.

    The handlers that were there before are back afterwards. Signals that were ignored stay ignored. Outside the main
    thread nothing is touched, and nothing is heard.
    """
    stop = Stop()
    stop.listen()
    try:
        yield stop
    finally:
        stop.restore()
