"""The logic of a sweep, without Ray: what to try, what a report means, when a trial has ended.

The conductor alone writes the ledger. Ray's adapters (``engine.raytune``) call it, and so can anything else that runs
trials. It keeps the order *ledger first, then study*: what the study knows can always be made again from the ledger.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gaptune.config import SweepConfig, flatten
from gaptune.engine.study import Asker
from gaptune.errors import UserError
from gaptune.ledger import Event, Ledger, State, SweepRecord, TrialRecord
from gaptune.methods import expand_method, name_method
from gaptune.space import Space

Listener = Callable[[Event], None]


class Conductor:
    """Draws trials, takes their reports, ends them, and puts all of it on record.

    Args:
        record: The sweep so far; kept up to date.
        ledger: Where every event is written first.
        asker: Where knobs come from.
        space: The search space.
        sweep: How trials are run.
        budget: Number of trials to draw in all.
        listeners: Called with each event after it has been written.
        clock: Seconds since 1970.
    """

    def __init__(
        self,
        record: SweepRecord,
        ledger: Ledger,
        asker: Asker,
        space: Space,
        sweep: SweepConfig,
        *,
        budget: int,
        listeners: Sequence[Listener] = (),
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.record = record
        self.budget = budget
        self._ledger = ledger
        self._asker = asker
        self._space = space
        self._sweep = sweep
        self._listeners = tuple(listeners)
        self._clock = clock
        self._unfinished = [trial for trial in record.trials.values() if not trial.state.ended]

    def next_trial(self) -> TrialRecord | None:
        """The next trial to run: first those that an earlier driver left unfinished, then new ones.

        Returns:
            A trial, or None when all have been handed out.
        """
        if self._unfinished:
            return self._unfinished.pop(0)
        while len(self.record.trials) < self.budget:
            number, knobs = self._asker.ask()
            try:
                config = self._sweep.trial(expand_method(knobs))
            except UserError as fault:  # knobs that are each allowed can be impossible together
                self._draw(number, knobs, {}, "impossible")
                self._end(number, State.FAIL, str(fault))
                continue
            self._draw(number, knobs, flatten(config), name_method(config))
            return self.record.trials[number]
        return None

    @property
    def live(self) -> int:
        """Trials that have been drawn and have not ended."""
        return self.record.count(State.WAITING, State.RUNNING)

    def started(self, number: int, node: str) -> None:
        """A worker has taken a trial up.

        Args:
            number: The trial.
            node: The name of the machine.
        """
        self._say("start", trial=number, node=node)

    def reported(self, number: int, epoch: int, step: int, metrics: Mapping[str, float]) -> bool:
        """Takes in the scores of an epoch.

        A trial is COMPLETE only with its full budget behind it and finite values of all objectives.

        Returns:
            Whether the trial should go on.
        """
        trial = self.record.trials[number]
        if trial.state.ended:
            return False
        bad = sorted(name for name, value in metrics.items() if not math.isfinite(value))
        if bad:
            self._end(number, State.FAIL, f"non-finite: {', '.join(bad)} after epoch {epoch}")
            return False
        self._say("report", durable=False, trial=number, epoch=epoch, step=step, metrics=dict(metrics))
        if trial.epoch < trial.epochs:
            return True
        missing = [o.metric for o in self._sweep.objectives if o.metric not in trial.last]
        if missing:
            self._end(number, State.FAIL, f"no {', '.join(missing)} in the trial's scores")
        else:
            self._end(number, State.COMPLETE, None)
        return False

    def retried(self, number: int, reason: str) -> None:
        """A trial broke and is being tried again."""
        self._say("retry", trial=number, reason=reason)

    def failed(self, number: int, reason: str) -> None:
        """A trial broke for good."""
        if not self.record.trials[number].state.ended:
            self._end(number, State.FAIL, reason)

    def close(self, interrupted: str | None) -> None:
        """Says why the driver stops.

        Args:
            interrupted: Why it stops with trials unfinished or undrawn; None when the sweep is done.
        """
        if interrupted is None:
            self._say("done")
        else:
            self._say("pause", reason=interrupted)

    def _draw(self, number: int, knobs: dict[str, Any], config: dict[str, Any], method: str) -> None:
        self._say("trial", trial=number, knobs=knobs, config=config, method=method)

    def _end(self, number: int, state: State, reason: str | None) -> None:
        self._say("end", trial=number, state=str(state), reason=reason)
        values = self.record.values(self.record.trials[number]) if state is State.COMPLETE else None
        self._asker.tell(number, state, values)

    def _say(self, kind: str, *, durable: bool = True, **content: Any) -> None:
        event: Event = {"event": kind, "at": self._clock(), **content}
        self._ledger.append(event, durable=durable)
        if self.record.apply(event):
            for listener in self._listeners:
                listener(event)
