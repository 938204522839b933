"""A sweep in virtual time: the real sampler, the real early stopping, no Ray and no training.

Learning curves come from wherever the caller has them (recorded, or a formula); a thousand trials take seconds.
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
"""The scores of a trial after each epoch of its full budget."""


class MemoryLog:
    """Keeps events in memory, in place of a ledger."""

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
    """Runs a sweep on learning curves that are already known.

    Args:
        space: The search space.
        sweep: Objectives, sampler, early stopping, number of trials and seeds.
        curve: The scores of any trial.
        workers: Trials side by side.
        epoch_seconds: Virtual seconds that an epoch of a trial takes.
        listeners: Called with each event after the first, which says what the sweep is.

    Returns:
        The sweep's state at the end, with virtual times, and its events in order.
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
        """What time it is."""
        return self.now


def play(
    orchestrator: Orchestrator,
    curve: Curve,
    clock: Clock,
    *,
    workers: int,
    epoch_seconds: Callable[[TrialRecord], float] = lambda trial: 1.0,
) -> None:
    """Trains a orchestrator's trials in virtual time, until none is left.

    Args:
        orchestrator: Of a new sweep, or of one that goes on: its trials then go on after their last epoch on record.
        curve: The scores of any trial.
        clock: The orchestrator's.
        workers: Trials side by side.
        epoch_seconds: Virtual seconds that an epoch of a trial takes.
    """
    running: list[tuple[float, int, int]] = []  # when the next report is due, of which trial, after which epoch

    def start() -> None:
        trial = orchestrator.next_trial()
        if trial is not None:
            orchestrator.started(trial.number, "virtual")
            heapq.heappush(running, (clock.now + epoch_seconds(trial), trial.number, trial.epoch + 1))

    for _ in range(workers):
        start()
    while running:
        clock.now, number, epoch = heapq.heappop(running)
        trial = orchestrator.record.trials[number]
        if orchestrator.reported(number, epoch, epoch, curve(trial)[epoch - 1]):
            heapq.heappush(running, (clock.now + epoch_seconds(trial), number, epoch + 1))
        else:
            start()
