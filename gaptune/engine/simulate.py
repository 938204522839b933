"""A sweep in virtual time: the real sampler, the real early stopping, no Ray and no training.

Learning curves come from wherever the caller has them (recorded, or a formula); a thousand trials take seconds.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping, Sequence

from gaptune.config import SweepConfig
from gaptune.engine.conductor import Conductor, Listener
from gaptune.engine.study import Asker
from gaptune.ledger import Event, SweepRecord, TrialRecord
from gaptune.space import Space

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
    log, record, now = MemoryLog(), SweepRecord(), 0.0
    opening: Event = {
        "event": "sweep",
        "at": now,
        "name": "simulated",
        "varied": list(space.varied()),
        "sweep": sweep.model_dump(mode="json"),
        "objectives": [
            {"metric": o.metric, "maximize": o.maximize, "reference": o.reference, "ideal": o.ideal}
            for o in sweep.objectives
        ],
    }
    log.append(opening)
    record.apply(opening)
    conductor = Conductor(
        record,
        log,
        Asker(space, sweep, "simulated"),
        sweep,
        budget=len(space.combinations()) if space.grid else sweep.search.trials,
        listeners=listeners,
        clock=lambda: now,
    )
    running: list[tuple[float, int, int]] = []  # when the next report is due, of which trial, after which epoch
    for _ in range(workers):
        _start(conductor, running, now, epoch_seconds)
    while running:
        now, number, epoch = heapq.heappop(running)
        trial = record.trials[number]
        if conductor.reported(number, epoch, epoch, curve(trial)[epoch - 1]):
            heapq.heappush(running, (now + epoch_seconds(trial), number, epoch + 1))
        else:
            _start(conductor, running, now, epoch_seconds)
    conductor.close(None)
    return record, log.events


def epochs_spent(record: SweepRecord) -> int:
    """Epochs trained by all trials of a sweep together."""
    return sum(trial.epoch for trial in record.trials.values())


def _start(
    conductor: Conductor,
    running: list[tuple[float, int, int]],
    now: float,
    epoch_seconds: Callable[[TrialRecord], float],
) -> None:
    trial = conductor.next_trial()
    if trial is not None:
        conductor.started(trial.number, "virtual")
        heapq.heappush(running, (now + epoch_seconds(trial), trial.number, 1))
