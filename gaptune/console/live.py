"""The display of a running sweep: a live panel on a terminal, plain lines elsewhere."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import TracebackType

from rich.console import Console as RichConsole
from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from gaptune.console import styles
from gaptune.console.tables import nodes_line, running_table, short
from gaptune.console.terminal import Console
from gaptune.ledger import Event, State, SweepRecord
from gaptune.results import summarize
from gaptune.text.output import echo, one_line

log = logging.getLogger(__name__)


class Display:
    """Shows a sweep by its events. An error in the display, or in printing, never reaches the sweep.

    Args:
        console: Console to print to.
    """

    def __init__(self, console: RichConsole) -> None:
        self._console = Console.like(console)
        self._record: SweepRecord | None = None
        self._total = 0
        self._since = time.time()
        self._done_before = 0
        self._epochs: dict[int, float] = {}
        self._lock = threading.Lock()
        self._best: tuple[int, RenderableType] = (-1, Text(""))
        self._live: Live | None = None
        self._shown: RenderableType = Text("")

    def start(self, record: SweepRecord, total: int) -> None:
        """Starts to show a sweep.

        Args:
            record: State of the sweep, updated by the orchestrator.
            total: Total number of trials.
        """
        self._record, self._total, self._since = record, total, time.time()
        self._done_before = _ended(record)
        if self._console.is_terminal and not self._console.is_dumb_terminal:
            self._live = _Panel(get_renderable=self._frame, console=self._console, refresh_per_second=2, transient=True)
            with _errors_logged():
                self._live.start()

    def __call__(self, event: Event) -> None:
        """Handles an event: the panel of a terminal shows it; elsewhere the end of a trial is a line."""
        if self._record is None or self._live is not None or event["event"] not in ("end", "retry"):
            return
        with _errors_logged():
            self.say(self._line(self._record, event))

    def progress(self, number: int, epochs: float) -> None:
        """Shows how far a running trial is, until its next report.

        Args:
            number: Number of the trial.
            epochs: Epochs trained so far, with the part of the one that has begun.
        """
        self._epochs[number] = epochs

    def say(self, line: str) -> None:
        """Prints a line above the panel."""
        with self._lock, _errors_logged():
            self._console.say(one_line(line))
        if self._console.stream.lost:
            self.close()

    def close(self) -> bool:
        """Removes the panel, and reports on standard error if something could not be printed.

        Returns:
            Whether everything could be printed.
        """
        if self._live is not None:
            with _errors_logged():
                self._live.stop()
            self._live = None
        error = self._console.stream.loss()
        if error is not None:
            why = getattr(error, "strerror", None) or error
            echo(f"gaptune: nothing more can be printed ({why}); the sweep continues", err=True)
        return error is None

    def __enter__(self) -> Display:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _line(self, record: SweepRecord, event: Event) -> str:
        trial = record.trials[event["trial"]]
        if event["event"] == "retry":
            return f"trial {trial.number}: retrying after: {event['reason']}"
        metrics = "  ".join(
            f"{metric} {short(value)}"
            for metric, value in zip(record.objectives.metrics, record.values(trial), strict=True)
            if value == value
        )
        reason = f"  ({trial.reason})" if trial.reason else ""
        place = f"[{_ended(record)}/{self._total}] trial {trial.number}"
        return f"{place} {trial.state} {trial.method}  {metrics}{reason}{self._time_left()}"

    def _time_left(self) -> str:
        assert self._record is not None
        finished = _ended(self._record) - self._done_before
        left = self._total - _ended(self._record)
        if not finished or left <= 0:
            return ""
        seconds = (time.time() - self._since) / finished * left
        return f"  about {seconds / 60:.0f} min left" if seconds >= 90 else f"  about {seconds:.0f} s left"

    def _frame(self) -> RenderableType:
        """The current frame of the panel; the previous frame if it cannot be drawn."""
        with _errors_logged():
            self._shown = self._drawn()
        return self._shown

    def _drawn(self) -> RenderableType:
        assert self._record is not None
        # A copy, made in one step: the orchestrator adds trials while the thread of the panel iterates over them.
        record = replace(self._record, trials=self._record.trials.copy())
        trials = list(record.trials.values())
        done = sum(trial.state.ended for trial in trials)
        failed = sum(trial.state is State.FAIL for trial in trials)
        running = [trial for trial in trials if trial.state is State.RUNNING]
        head = Table.grid(padding=(0, 2))
        head.add_row(
            Text(one_line(record.name), style=styles.NAME),
            ProgressBar(total=max(1, self._total), completed=done, width=30),
            f"{done}/{self._total} done, {len(running)} running, {failed} failed{self._time_left()}",
        )
        nodes = nodes_line(record)
        where = [Text(one_line(nodes), style=styles.QUIET)] if nodes else []
        return Group(head, *where, running_table(record, self._epochs), self._best_so_far(record, done))

    def _best_so_far(self, record: SweepRecord, done: int) -> RenderableType:
        if self._best[0] != done:  # computed again only when a trial has ended
            summary = summarize(record)
            best = ", ".join(f"{one.trial.number} ({one.trial.method})" for one in summary.front)
            volume = "" if summary.hypervolume is None else f"; hypervolume {summary.hypervolume:.4f}"
            line = f"front: {best}{volume}" if best else f"no front yet: {summary.unknown}"
            self._best = (done, Text(line, styles.QUIET))
        return self._best[1]


@contextmanager
def _errors_logged() -> Iterator[None]:
    """Logs any error instead of raising it: an error of the display must not end a sweep."""
    try:
        yield
    except Exception:
        log.debug("the display of a sweep failed", exc_info=True)


class _Panel(Live):
    """A live panel that continues after a frame that cannot be drawn."""

    def refresh(self) -> None:
        """Draws a frame."""
        with _errors_logged():
            super().refresh()


def _ended(record: SweepRecord) -> int:
    return record.count(State.COMPLETE, State.PRUNED, State.FAIL)
