"""The logic of a sweep, without Ray: it draws candidates, processes reports, and ends trials.

Only the orchestrator writes the ledger. It is called by the adapters for Ray (``engine.raytune``) and by the simulator.
It writes each event *to the ledger first, then to the study*, so that the study can always be rebuilt from the ledger.
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
    """Destination of events, such as a ``Ledger``."""

    def append(self, event: Event, *, durable: bool = True) -> None:
        """Writes one event."""
        ...


@dataclass(frozen=True)
class _Drawn:
    """A candidate from the study."""

    candidate: int
    params: dict[str, Any]
    notes: dict[str, Any]


class Orchestrator:
    """Draws trials, processes their reports, ends them, and records every event.

    The constructor is for a new sweep, ``resume`` for a sweep that an earlier driver may have started.

    Args:
        record: State of the sweep, updated with each event.
        ledger: Destination of events.
        study: Source of candidates.
        sweep: Sweep config.
        num_candidates: Total number of candidates; each is trained on ``sweep.search.seeds`` seeds.
        listeners: Receivers of each event after it is in the ledger.
        clock: Function that returns the time in seconds since 1970.

    Attributes:
        record: State of the sweep.
        num_candidates: Total number of candidates.
        halted: Reason why the sweep cannot continue; None if it can.
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
        """Returns an orchestrator that continues where an earlier driver stopped, with the same decisions.

        It adds the earlier candidates to the study, rebuilds the rungs of early stopping, and writes the events that a
        killed driver could not write: further seeds of a candidate, and ends of trials.

        Args:
            opened: Sweep so far: its state, its events, and the highest trial and candidate numbers ever used.
            ledger: Destination of events.
            study: Empty study.
            sweep: Sweep config.
            num_candidates: Total number of candidates.
            listeners: Receivers of each event after it is in the ledger.
            clock: Function that returns the time in seconds since 1970.
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
        """Stops the sweep for a reason outside its trials. Running trials stay unfinished."""
        self.halted = self.halted or reason

    @property
    def exhausted(self) -> bool:
        """Whether no candidate is left: all have been drawn, or the space has no further combination."""
        return self._nothing_left or len(self._groups) >= self.num_candidates

    @property
    def live(self) -> int:
        """Number of trials that have been drawn and have not ended."""
        return len(self._live)

    def next_trial(self) -> TrialRecord | None:
        """Returns the next trial to run: first the unfinished trials of an earlier driver, then new trials.

        Returns:
            The next trial; None if no trial is left.
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
        """Records that a worker has started a trial.

        Args:
            number: Number of the trial.
            node: Name of the machine.
        """
        self._say("start", trial=number, node=node)

    def reported(self, number: int, epoch: int, step: int, metrics: Mapping[str, float]) -> bool:
        """Processes a report.

        A trial is COMPLETE only after its full budget, with finite values of all objectives.

        Returns:
            Whether the trial should continue.
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
        """Records that a trial failed and is retried."""
        self._say("retry", trial=number, reason=_storable(reason))

    def failed(self, number: int, reason: str) -> None:
        """Ends a trial that failed and is not retried."""
        trial = self.record.trials[number]
        if not trial.state.ended:
            self._end(trial, State.FAIL, _storable(reason))

    def scored(self, number: int, metrics: Mapping[str, float]) -> None:
        """Records further metrics of a trial that has ended."""
        self._say("metrics", trial=number, metrics=dict(metrics))

    def close(self, interrupted: str | None) -> None:
        """Records that the driver stops.

        Args:
            interrupted: Reason for stopping before the end of the sweep; None if the sweep is done.
        """
        if interrupted is None:
            with suppress(OSError):  # the next driver finds that all trials have ended, and records it
                self._say("done")
            return
        self.record.paused = interrupted  # kept in memory even if the disk is full
        with suppress(OSError):
            self._say("pause", reason=interrupted)
        with suppress(OSError):
            self._study.close()

    def _draw(self) -> None:
        """Draws a candidate and adds its trials, one per seed, to the queue."""
        found = self._study.ask()
        if found is None:
            self._nothing_left = True
            return
        drawn = _Drawn(*found, self._study.notes(found[0]))
        self._groups[drawn.candidate] = []
        try:
            config = self._sweep.trial(expand_method(drawn.params))
        except UserError as error:  # values that are valid alone can be invalid together
            trials = [self._enter(drawn, None) for _ in range(self._sweep.search.seeds)]
            self._end(trials[0], State.FAIL, str(error))
            return
        self._queue.extend(self._enter(drawn, seeded) for seeded in self._seeded(config))

    def _seeded(self, config: TrialConfig) -> list[TrialConfig]:
        return [config.model_copy(update={"seed": config.seed + i}) for i in range(self._sweep.search.seeds)]

    def _complete_seeds(self, candidate: int, group: list[TrialRecord]) -> None:
        """Adds the missing seeds of a candidate, if a driver was killed while it drew them."""
        first, states = group[0], {trial.state for trial in group}
        if len(group) >= self._sweep.search.seeds or states & {State.FAIL, State.PRUNED}:
            return
        there = {trial.config["seed"] for trial in group}
        for seeded in self._seeded(self._sweep.trial(expand_method(first.params))):
            if seeded.seed not in there:
                self._enter(_Drawn(candidate, first.params, first.notes), seeded)

    def _enter(self, drawn: _Drawn, config: TrialConfig | None) -> TrialRecord:
        """Records a new trial. A trial without a configuration can only fail."""
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
        """Returns the decision of early stopping: a reason to stop the candidate, or None."""
        objectives = self.record.objectives
        point = objectives.maximized([metrics.get(metric, math.nan) for metric in objectives.metrics])[0]
        return self._early_stopping.decide(trial, epoch, tuple(point))

    def _judge(self, trial: TrialRecord, stop: str | None) -> None:
        """Ends a trial if its newest report requires it."""
        if stop is not None:
            self._end(trial, State.PRUNED, stop)
        elif trial.epoch >= trial.epochs:
            missing = [o.metric for o in self._sweep.objectives if o.metric not in trial.last]
            if missing:
                self._end(trial, State.FAIL, f"objective not measured: {', '.join(missing)}")
            else:
                self._end(trial, State.COMPLETE, None)

    def _end(self, trial: TrialRecord, state: State, reason: str | None) -> None:
        """Ends a trial, and unless it is complete, the other seeds of its candidate. Then updates the study."""
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
        """Adds all recorded candidates to the study, in order."""
        for candidate, group in self._groups.items():
            self._complete_seeds(candidate, group)
            together = State.together(trial.state for trial in group)
            notes = next((trial.notes for trial in group if trial.notes), None)
            one = Candidate.of(self.record, group)
            self._study.resume(
                group[0].params, together, one.values, one.stds, one.violations, candidate=candidate, notes=notes
            )

    def _catch_up(self, earlier: Iterable[Event]) -> None:
        """Rebuilds the rungs of early stopping, and ends trials that a killed driver could not end."""
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
                except Exception:  # an error of a listener must not stop the sweep
                    _log.exception("%s failed at %s; the sweep continues", type(listener).__name__, kind)


def _storable(reason: str) -> str:
    """Makes a reason valid UTF-8, because it may contain the path of a file whose name is not."""
    return reason.encode("utf-8", "backslashreplace").decode()
