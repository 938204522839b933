"""Who follows a sweep: everything that hears of its events."""

from __future__ import annotations

from typing import Protocol

from gaptune.ledger import Event, SweepRecord


class Listener(Protocol):
    """Follows a sweep by its events. Each event is in the ledger before a listener hears of it."""

    def __call__(self, event: Event) -> None:
        """Takes an event, and does not wait. An exception is logged, and does not end the sweep."""
        ...

    def close(self) -> bool:
        """Ends what follows the sweep: no event comes after this. A second call does nothing.

        Returns:
            Whether everything that the events ask for has been done.
        """
        ...


class Observer(Listener, Protocol):
    """A listener that shows the sweep to a person."""

    def start(self, record: SweepRecord, total: int, /) -> None:
        """Begins to show a sweep of so many trials; the record is kept up to date."""
        ...

    def say(self, line: str, /) -> None:
        """Shows a line, also after ``close``."""
        ...
