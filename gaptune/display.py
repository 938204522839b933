"""What a person sees while a sweep runs: a live panel on a terminal, plain lines elsewhere."""

from __future__ import annotations

import threading
import time
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from gaptune.ledger import Event, State, SweepRecord
from gaptune.results import summarize
from gaptune.results.table import running_table, short


class Display:
    """Follows a sweep by its events.

    Args:
        console: Where to write.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._record: SweepRecord | None = None
        self._budget = 0
        self._since = time.time()
        self._done_before = 0
        self._lock = threading.Lock()
        self._best: tuple[int, RenderableType] = (-1, Text(""))
        self._live: Live | None = None

    def start(self, record: SweepRecord, budget: int) -> None:
        """Begins to show a sweep.

        Args:
            record: Its state, kept up to date by the conductor.
            budget: Trials in all.
        """
        self._record, self._budget, self._since = record, budget, time.time()
        self._done_before = _ended(record)
        if self._console.is_terminal:
            self._live = Live(get_renderable=self._panel, console=self._console, refresh_per_second=2, transient=True)
            self._live.start()

    def __call__(self, event: Event) -> None:
        """Takes an event; on a terminal the panel shows it, elsewhere a trial's end is a line."""
        if self._record is None or self._live is not None or event["event"] not in ("end", "retry"):
            return
        trial = self._record.trials[event["trial"]]
        if event["event"] == "retry":
            self.say(f"trial {trial.number}: tried again after: {event['reason']}")
            return
        scores = "  ".join(
            f"{objective['metric']} {short(value)}"
            for objective, value in zip(self._record.objectives, self._record.values(trial), strict=True)
            if value == value
        )
        reason = f"  ({trial.reason})" if trial.reason else ""
        place = f"[{_ended(self._record)}/{self._budget}] trial {trial.number}"
        self.say(f"{place} {trial.state} {trial.method}  {scores}{reason}{self._time_left()}")

    def say(self, line: str) -> None:
        """Prints a line above the panel."""
        with self._lock:
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def close(self) -> None:
        """Takes the panel away."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def __enter__(self) -> Display:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _time_left(self) -> str:
        assert self._record is not None
        finished = _ended(self._record) - self._done_before
        left = self._budget - _ended(self._record)
        if not finished or left <= 0:
            return ""
        seconds = (time.time() - self._since) / finished * left
        return f"  about {seconds / 60:.0f} min left" if seconds >= 90 else f"  about {seconds:.0f} s left"

    def _panel(self) -> RenderableType:
        record = self._record
        assert record is not None
        trials = list(record.trials.values())
        done = sum(trial.state.ended for trial in trials)
        failed = sum(trial.state is State.FAIL for trial in trials)
        running = [trial for trial in trials if trial.state is State.RUNNING]
        head = Table.grid(padding=(0, 2))
        head.add_row(
            Text(record.name, style="bold"),
            ProgressBar(total=max(1, self._budget), completed=done, width=30),
            f"{done}/{self._budget} done, {len(running)} running, {failed} failed{self._time_left()}",
        )
        return Group(head, running_table(record), self._best_so_far(record, done))

    def _best_so_far(self, record: SweepRecord, done: int) -> RenderableType:
        if self._best[0] != done:  # worked out anew only when a trial has ended
            summary = summarize(record)
            best = ", ".join(f"{one.trial.number} ({one.trial.method})" for one in summary.front)
            self._best = (
                done,
                Text(f"front: {best or 'empty so far'}; hypervolume {summary.hypervolume:.4f}", "dim"),
            )
        return self._best[1]


def _ended(record: SweepRecord) -> int:
    return record.count(State.COMPLETE, State.PRUNED, State.FAIL)
