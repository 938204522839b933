"""Simulates a sweep in virtual time with the real sampler and early stopping, but without Ray and training.

The caller provides the learning curves (recorded, or from a formula). A thousand trials take seconds.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict

from gaptune.config import SweepConfig
from gaptune.ledger import Event, SweepRecord, TrialRecord
from gaptune.search.identity import num_candidates
from gaptune.search.listener import Listener
from gaptune.search.orchestrator import Orchestrator
from gaptune.search.study import Study
from gaptune.space.model import Space

Curve = Callable[[TrialRecord], Sequence[Mapping[str, float]]]
"""Function that returns the metrics of a trial after each epoch of its full budget."""


class MemoryLog:
    """Keeps events in memory instead of a ledger."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def append(self, event: Event, *, durable: bool = True) -> None:
        """Keeps an event."""
        self.events.append(event)


def simulate(
    space: Space,
    sweep: SweepConfig,
    curve: Curve,
    *,
    workers: int,
    epoch_seconds: Callable[[TrialRecord], float] = lambda trial: 1.0,
    listeners: Sequence[Listener] = (),
) -> tuple[SweepRecord, list[Event]]:
    """Simulates a sweep on known learning curves.

    Args:
        space: Search space.
        sweep: Sweep config.
        curve: Function that returns the metrics of a trial after each epoch.
        workers: Number of parallel trials.
        epoch_seconds: Function that returns the duration of an epoch of a trial in virtual seconds.
        listeners: Receivers of each event after the first event, the header of the sweep.

    Returns:
        Final state of the sweep with virtual times, and its events in order.
    """
    log, record = MemoryLog(), SweepRecord()
    opening: Event = {
        "event": "sweep",
        "at": 0.0,
        "name": "simulated",
        "varied": list(space.varied()),
        "config": sweep.model_dump(mode="json"),
        "objectives": [asdict(objective) for objective in sweep.wanted],
    }
    log.append(opening)
    record.apply(opening)
    clock = Clock()
    orchestrator = Orchestrator(
        record,
        log,
        Study(space, sweep, "simulated"),
        sweep,
        num_candidates=num_candidates(space, sweep),
        listeners=listeners,
        clock=clock,
    )
    play(orchestrator, curve, clock, workers=workers, epoch_seconds=epoch_seconds)
    orchestrator.close(None)
    return record, log.events


class Clock:
    """Virtual time, in seconds."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        """Returns the current virtual time."""
        return self.now


def play(
    orchestrator: Orchestrator,
    curve: Curve,
    clock: Clock,
    *,
    workers: int,
    epoch_seconds: Callable[[TrialRecord], float] = lambda trial: 1.0,
) -> None:
    """Simulates the trials of an orchestrator until none is left.

    Args:
        orchestrator: Orchestrator of a new or resumed sweep. Trials resume after their last recorded epoch.
        curve: Function that returns the metrics of a trial after each epoch.
        clock: Clock of the orchestrator.
        workers: Number of parallel trials.
        epoch_seconds: Function that returns the duration of an epoch of a trial in virtual seconds.
    """
    running: list[tuple[float, int, int]] = []  # time of the next report, trial number, epoch

    def train(trial: TrialRecord) -> None:
        epoch = trial.next_report(trial.epoch + 1)
        seconds = (epoch - trial.epoch) * epoch_seconds(trial)
        heapq.heappush(running, (clock.now + seconds, trial.number, epoch))

    def start() -> None:
        trial = orchestrator.next_trial()
        if trial is not None:
            orchestrator.started(trial.number, "virtual")
            train(trial)

    for _ in range(workers):
        start()
    while running:
        clock.now, number, epoch = heapq.heappop(running)
        trial = orchestrator.record.trials[number]
        if orchestrator.reported(number, epoch, epoch, curve(trial)[epoch - 1]):
            train(trial)
        else:
            start()
