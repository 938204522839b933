"""Listeners: objects that receive the events of a sweep."""

from __future__ import annotations

from typing import Protocol

from gaptune.ledger import Event, SweepRecord


class Listener(Protocol):
    """Receives the events of a sweep. Each event is in the ledger before a listener receives it."""

    def __call__(self, event: Event) -> None:
        """Receives an event without blocking. An exception is logged and does not stop the sweep."""
        ...

    def close(self) -> bool:
        """Closes the listener; no event follows. A second call does nothing.

        Returns:
            Whether all events have been processed.
        """
        ...


class Observer(Listener, Protocol):
    """A listener that displays the sweep."""

    def start(self, record: SweepRecord, total: int, /) -> None:
        """Starts to display a sweep with ``total`` trials; ``record`` is updated with each event."""
        ...

    def progress(self, number: int, epochs: float, /) -> None:
        """Displays how far a trial is: epochs trained so far, with the part of the one that has begun."""
        ...

    def say(self, line: str, /) -> None:
        """Displays a line, also after ``close``."""
        ...
