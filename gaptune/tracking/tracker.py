"""The thread that keeps MLflow up to date while a sweep runs."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable

from gaptune.errors import UserError
from gaptune.ledger import Event, SweepRecord
from gaptune.tracking.failures import UnreachableError, first_line
from gaptune.tracking.mirror import Mirror

PATIENCE_S = 20.0
"""Seconds that the end of a sweep waits for MLflow, in all."""


class Tracker:
    """Updates a ``Mirror`` in a thread.

    Args:
        mirror: The sweep in MLflow.
        record: The sweep's state, kept up to date by the orchestrator.
        events: Earlier events, which are written first.
        say: Callback that prints a line when MLflow becomes unreachable, and when it is back.
    """

    def __init__(
        self, mirror: Mirror, record: SweepRecord, events: Iterable[Event], say: Callable[[str], None]
    ) -> None:
        self._mirror = mirror
        self._record = record
        self._say = say
        self._queue: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._left = False  # nobody waits for the end any more
        self._behind = False
        for event in events:
            self._queue.put(event)
        self._thread = threading.Thread(target=self._run, name="mlflow", daemon=True)
        self._thread.start()

    def __call__(self, event: Event) -> None:
        """Takes an event, and does not wait."""
        self._queue.put(event)

    def close(self, patience: float = PATIENCE_S) -> bool:
        """Waits until everything is written, but not for long. A second call does not wait.

        Args:
            patience: Seconds to wait at most.

        Returns:
            Whether MLflow has everything.
        """
        self._queue.put(None)
        self._closing.set()
        self._thread.join(0.0 if self._left else max(patience, 0.0))
        self._left = True
        return not self._thread.is_alive() and not self._behind

    def _run(self) -> None:
        news: set[int] = set()  # trials that have changed; their state is in the record
        wait, last, behind = 1.0, False, False
        while not self._left:
            last = self._drain(news, wait=not behind and not last) or last
            try:
                for line in self._mirror.write(self._record, news):
                    self._say(line)
                news.clear()
                self._mirror.add_files(self._record)
            except Exception as error:  # no error of MLflow ends a trial
                if not behind and not self._left:
                    self._say(_told(error))
                self._behind = behind = True
                if last and isinstance(error, UserError):
                    return
                if self._closing.is_set():
                    time.sleep(1.0)
                else:
                    self._closing.wait(wait)
                wait = min(2 * wait, 15.0)
            else:
                if behind and not self._left:
                    self._say("MLflow is reachable again and up to date")
                self._behind = behind = False
                wait = 1.0
                if last:
                    return

    def _drain(self, news: set[int], *, wait: bool) -> bool:
        """Takes all waiting events; returns whether the last one was among them."""
        last = False
        while wait or not self._queue.empty():
            event, wait = self._queue.get(), False
            last = last or event is None
            if event is not None and "trial" in event:
                news.add(event["trial"])
            elif event is not None:  # the sweep stops: unfinished trials are no longer RUNNING
                news |= {trial.number for trial in list(self._record.trials.values()) if not trial.state.ended}
        return last


def _told(error: Exception) -> str:
    if isinstance(error, UserError):
        return f"{error}. Trials continue"
    if isinstance(error, UnreachableError):
        return f"{error}. Trials continue; MLflow is updated when it is back"
    return f"MLflow cannot be updated ({first_line(error)}). Trials continue; gaptune tries again"
