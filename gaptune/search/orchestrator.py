"""The logic of a sweep, without Ray: what to try, what a report means, when a trial has ended.

The orchestrator alone writes the ledger. Ray's adapters (``engine.raytune``) call it, and so does the simulator. It
keeps the order *ledger first, then study*: what the study knows can always be made again from the ledger.
"""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from gaptune.config import SweepConfig, TrialConfig, flatten
from gaptune.errors import UserError
from gaptune.ledger import Event, State, SweepRecord, TrialRecord, known_trials
from gaptune.ledger.candidate import Candidate
from gaptune.search.early_stopping import EarlyStopping
from gaptune.search.listener import Listener
from gaptune.search.study import Study
from gaptune.space.methods import expand_method, name_method

if TYPE_CHECKING:
    from gaptune.ledger.opening import Opened

_log = logging.getLogger(__name__)


class Log(Protocol):
    """Where events are written first: a ``Ledger``."""

    def append(self, event: Event, *, durable: bool = True) -> None:
        """Writes one event."""
        ...


@dataclass(frozen=True)
class _Drawn:
    """A candidate as it was drawn."""

    candidate: int
    params: dict[str, Any]
    notes: dict[str, Any]


class Orchestrator:
    """Draws trials, takes their reports, ends them, and puts all of it on record.

    The constructor is for a new sweep, ``resume`` for one that an earlier driver may have begun.

    Args:
        record: The sweep's state; kept up to date.
        ledger: Where every event is written first.
        study: Where candidates come from.
        sweep: How trials are run.
        num_candidates: Number of candidates to draw in all; each is trained on ``sweep.search.seeds`` seeds.
        listeners: Called with each event after it has been written.
        clock: Seconds since 1970.

    Attributes:
        record: The sweep's state.
        num_candidates: Number of candidates to draw in all.
        halted: Why the sweep cannot go on now; None while it can.
    """

    def __init__(
        self,
        record: SweepRecord,
        ledger: Log,
        study: Study,
        sweep: SweepConfig,
        *,
        num_candidates: int,
        listeners: Sequence[Listener] = (),
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.record = record
        self.num_candidates = num_candidates
        self.halted: str | None = None
        self._ledger = ledger
        self._study = study
        self._sweep = sweep
        self._listeners = tuple(listeners)
        self._clock = clock
        self._early_stopping = EarlyStopping(sweep.early_stopping, sweep.search.seeds)
        self._next_trial = 1 + record.highest
        self._groups = record.candidates()
        self._live = {trial.number for trial in record.trials.values() if not trial.state.ended}
        self._queue: deque[TrialRecord] = deque()
        self._nothing_left = False

    @classmethod
    def resume(
        cls,
        opened: Opened,
        ledger: Log,
        study: Study,
        sweep: SweepConfig,
        *,
        num_candidates: int,
        listeners: Sequence[Listener] = (),
        clock: Callable[[], float] = time.time,
    ) -> Orchestrator:
        """An orchestrator that continues where an earlier driver stopped, and decides as that one would have.

        It adds the earlier candidates to the study, rebuilds early stopping's rungs, and writes to the ledger what the
        earlier driver was killed before it could write: further seeds of a candidate, and ends of trials.

        Args:
            opened: The sweep so far: its state, its events, and the highest numbers that were ever given.
            ledger: Where every event is written first.
            study: A study without candidates.
            sweep: How trials are run.
            num_candidates: Number of candidates to draw in all.
            listeners: Called with each event after it has been written.
            clock: Seconds since 1970.
        """
        record = opened.record
        resumed = cls(record, ledger, study, sweep, num_candidates=num_candidates, listeners=listeners, clock=clock)
        trial, candidate = opened.highest
        resumed._next_trial = max(resumed._next_trial, 1 + trial)
        resumed._restore_study()
        study.pass_over(max(record.highest_candidate, candidate))
        resumed._catch_up(opened.events)
        resumed._queue.extend(record.trials[number] for number in sorted(resumed._live))
        return resumed

    def halt(self, reason: str) -> None:
        """Notes that the sweep cannot go on now, through no fault of a trial; the trials under way stay unfinished."""
        self.halted = self.halted or reason

    @property
    def exhausted(self) -> bool:
        """Whether every candidate has been drawn, or the space holds no further one."""
        return self._nothing_left or len(self._groups) >= self.num_candidates

    @property
    def live(self) -> int:
        """Trials that have been drawn and have not ended."""
        return len(self._live)

    def next_trial(self) -> TrialRecord | None:
        """The next trial to run: first those that an earlier driver left unfinished, then new ones.

        Returns:
            A trial, or None when all have been handed out.
        """
        while True:
            while self._queue:
                trial = self._queue.popleft()
                if not trial.state.ended:
                    return trial
            if self.exhausted:
                return None
            self._draw()

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
            self._end(trial, State.FAIL, f"non-finite: {', '.join(bad)} after epoch {epoch}")
            return False
        if epoch > trial.epoch:
            self._say("report", durable=False, trial=number, epoch=epoch, step=step, metrics=dict(metrics))
            self._judge(trial, self._stop(trial, epoch, metrics))
        return not trial.state.ended

    def retried(self, number: int, reason: str) -> None:
        """A trial broke and is being tried again."""
        self._say("retry", trial=number, reason=_storable(reason))

    def failed(self, number: int, reason: str) -> None:
        """A trial broke for good."""
        trial = self.record.trials[number]
        if not trial.state.ended:
            self._end(trial, State.FAIL, _storable(reason))

    def scored(self, number: int, metrics: Mapping[str, float]) -> None:
        """Takes in further scores of a trial that has ended."""
        self._say("metrics", trial=number, metrics=dict(metrics))

    def close(self, interrupted: str | None) -> None:
        """Says why the driver stops.

        Args:
            interrupted: Why it stops with trials unfinished or undrawn; None when the sweep is done.
        """
        if interrupted is None:
            with suppress(OSError):  # the next driver finds all trials ended, and says it
                self._say("done")
            return
        self.record.paused = interrupted  # also when the disk that should keep it is full
        with suppress(OSError):
            self._say("pause", reason=interrupted)
        with suppress(OSError):
            self._study.close()

    def _draw(self) -> None:
        """Asks for a set of parameters and puts its trials, one for each seed, in the queue."""
        found = self._study.ask()
        if found is None:
            self._nothing_left = True
            return
        drawn = _Drawn(*found, self._study.notes(found[0]))
        self._groups[drawn.candidate] = []
        try:
            config = self._sweep.trial(expand_method(drawn.params))
        except UserError as error:  # parameters that are each allowed can be impossible together
            trials = [self._enter(drawn, None) for _ in range(self._sweep.search.seeds)]
            self._end(trials[0], State.FAIL, str(error))
            return
        self._queue.extend(self._enter(drawn, seeded) for seeded in self._seeded(config))

    def _seeded(self, config: TrialConfig) -> list[TrialConfig]:
        return [config.model_copy(update={"seed": config.seed + i}) for i in range(self._sweep.search.seeds)]

    def _complete_seeds(self, candidate: int, group: list[TrialRecord]) -> None:
        """Gives a candidate the seeds that it lacks, because a driver was killed while it drew them."""
        first, states = group[0], {trial.state for trial in group}
        if len(group) >= self._sweep.search.seeds or states & {State.FAIL, State.PRUNED}:
            return
        there = {trial.config["seed"] for trial in group}
        for seeded in self._seeded(self._sweep.trial(expand_method(first.params))):
            if seeded.seed not in there:
                self._enter(_Drawn(candidate, first.params, first.notes), seeded)

    def _enter(self, drawn: _Drawn, config: TrialConfig | None) -> TrialRecord:
        """Puts a trial on record; one without a configuration can only fail."""
        number = self._next_trial
        content: dict[str, Any] = {
            "trial": number,
            "candidate": drawn.candidate,
            "params": drawn.params,
            "config": flatten(config) if config else {},
            "method": name_method(config) if config else "impossible",
        }
        if drawn.notes:
            content["sampler"] = drawn.notes
        self._say("trial", **content)
        self._next_trial += 1
        trial = self.record.trials[number]
        self._groups[drawn.candidate].append(trial)
        self._live.add(number)
        return trial

    def _stop(self, trial: TrialRecord, epoch: int, metrics: Mapping[str, float]) -> str | None:
        """Early stopping's decision on a report: a reason to stop the whole candidate, or None."""
        objectives = self.record.objectives
        point = objectives.maximized([metrics.get(metric, math.nan) for metric in objectives.metrics])[0]
        return self._early_stopping.decide(trial, epoch, tuple(point))

    def _judge(self, trial: TrialRecord, stop: str | None) -> None:
        """What follows from a trial's newest report."""
        if stop is not None:
            self._end(trial, State.PRUNED, stop)
        elif trial.epoch >= trial.epochs:
            missing = [o.metric for o in self._sweep.objectives if o.metric not in trial.last]
            if missing:
                self._end(trial, State.FAIL, f"no {', '.join(missing)} in the trial's scores")
            else:
                self._end(trial, State.COMPLETE, None)

    def _end(self, trial: TrialRecord, state: State, reason: str | None) -> None:
        """Ends a trial, and the other seeds of its candidate with it unless it is complete; then tells the study."""
        group = self._groups[trial.candidate]
        ending = [trial] if state is State.COMPLETE else [one for one in group if not one.state.ended]
        for one in ending:
            why = reason if one is trial or state is State.PRUNED else f"seed {trial.config.get('seed')} failed"
            self._say("end", trial=one.number, state=str(state), reason=why)
            self._live.discard(one.number)
        if len(group) == self._sweep.search.seeds and all(one.state.ended for one in group):
            together = State.together(one.state for one in group)
            candidate = Candidate.of(self.record, group)
            self._study.tell(trial.candidate, together, candidate.values, candidate.stds, candidate.violations)

    def _restore_study(self) -> None:
        """Tells the study of all candidates on record, in order."""
        for candidate, group in self._groups.items():
            self._complete_seeds(candidate, group)
            together = State.together(trial.state for trial in group)
            notes = next((trial.notes for trial in group if trial.notes), None)
            one = Candidate.of(self.record, group)
            self._study.resume(
                group[0].params, together, one.values, one.stds, one.violations, candidate=candidate, notes=notes
            )

    def _catch_up(self, earlier: Iterable[Event]) -> None:
        """Rebuilds early stopping's rungs, and draws the conclusions that a killed driver did not come to."""
        for event in known_trials(earlier):
            if event["event"] == "report":
                trial = self.record.trials[event["trial"]]
                stop = self._stop(trial, event["epoch"], event["metrics"])
                if not trial.state.ended and (stop is not None or event["epoch"] >= trial.epochs):
                    self._judge(trial, stop)

    def _say(self, kind: str, *, durable: bool = True, **content: Any) -> None:
        event: Event = {"event": kind, "at": self._clock(), **content}
        self._ledger.append(event, durable=durable)
        if self.record.apply(event):
            for listener in self._listeners:
                try:
                    listener(event)
                except Exception:  # whoever shows or copies what happens is not to end it
                    _log.exception("%s failed at %s; the sweep goes on", type(listener).__name__, kind)


def _storable(reason: str) -> str:
    """A reason as UTF-8 can hold it: the path in it may be of a file whose name is not UTF-8."""
    return reason.encode("utf-8", "backslashreplace").decode()
