"""What the control of a large sweep costs: a simulated driver with everything of a real one except Ray and training.

Trials replay the recorded embedded curves, with a little noise, so that no two are equal. Time is virtual: workers
train, and one driver answers them one after the other. It takes as long as its own CPU time, less Optuna's ``ask``,
which is reported alone. So a driver that is too slow shows as workers that wait. Everything else is real: orchestrator,
study, early stopping, groups, retention, heartbeats (in memory), and the ledger with its fsyncs. Optuna's journal is
added by ``--journal``, MLflow's SQLite store by ``--mlflow``.

    python benchmarks/control.py [--candidates 10000] [--workers 1000] [--sampler random] [--early-stopping asha]
"""

from __future__ import annotations

import argparse
import heapq
import resource
import tempfile
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from early_stopping import STOP, load

from gaptune.config import EarlyStoppingConfig, SweepConfig
from gaptune.engine.groups import Groups
from gaptune.engine.heartbeat import Watch
from gaptune.engine.retention import Retention
from gaptune.ledger import Event, Ledger, SweepRecord, read_events, replay
from gaptune.search.early_stopping import EarlyStopping
from gaptune.search.identity import num_candidates
from gaptune.search.orchestrator import Orchestrator
from gaptune.search.study import Study
from gaptune.simulation.curves import Curves
from gaptune.simulation.play import Clock
from gaptune.space.model import Space

NOISE = 1e-3
"""Standard deviation of what is added to each recorded metric."""


class Meter:
    """CPU seconds of the driver's thread by part; a part that calls another does not count the other's."""

    def __init__(self) -> None:
        self.spent: Counter[str] = Counter()
        self._open: list[float] = []  # for each call under way: the seconds of the parts that it has called

    def wrap(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, measured as a part."""

        def measured(*args: Any, **kwargs: Any) -> Any:
            self._open.append(0.0)
            started = time.thread_time()
            try:
                return function(*args, **kwargs)
            finally:
                seconds = time.thread_time() - started
                self.spent[part] += seconds - self._open.pop()
                if self._open:
                    self._open[-1] += seconds

        return measured

    @property
    def ours(self) -> float:
        """All that the driver has spent, without Optuna's ``ask`` and without the simulator."""
        return sum(self.spent.values()) - self.spent["Optuna's ask"] - self.spent["simulator"]


class Driver:
    """The loop of a driver, as Ray Tune runs it: after each event it is asked whether it has another trial.

    Attributes:
        clock: Virtual time.
        waits: Virtual seconds that a worker waited for each answer.
    """

    def __init__(
        self, orchestrator: Orchestrator, clock: Clock, curves: Curves, meter: Meter, *, workers: int, epoch_s: float
    ) -> None:
        self.clock, self.waits = clock, []  # type: Clock, list[float]
        self._orchestrator, self._meter, self._epoch_s, self._free = orchestrator, meter, epoch_s, workers
        self._groups, self._most = Groups(orchestrator, 1), workers + 1
        self._waiting: deque[int] = deque()  # drawn, but no worker is free yet
        self._reports: list[tuple[float, int, int]] = []  # virtual time, trial, epoch
        self._beats: dict[str, bytes] = {}
        self._watch = Watch(600.0, self._beats.get, clock)
        self._running: dict[str, int] = {}
        self._curve = meter.wrap("simulator", curves)
        self._suggest = meter.wrap("groups", self._suggest)  # type: ignore[method-assign]
        self._hear = meter.wrap("groups", self._hear)  # type: ignore[method-assign]
        self._look = meter.wrap("heartbeats", self._watch.stuck)
        self._metrics: dict[int, list[Mapping[str, float]]] = {}

    def run(self, then: Callable[[], None]) -> None:
        """Runs trials until none is left, and calls ``then`` after each report."""
        while self._advance(self._suggest):
            self._start()
        while self._reports:
            due, number, epoch = heapq.heappop(self._reports)
            self.clock.now = max(self.clock.now, due)
            if self._advance(self._hear, number, epoch):
                self._train(number, epoch + 1)
            else:
                self._free += 1
                del self._running[str(number)], self._metrics[number]
            self._start()
            self.waits.append(self.clock.now - due)
            self._advance(self._suggest)
            self._start()
            self._advance(self._look, self._running)
            then()

    def _advance(self, step: Callable[..., Any], *args: Any) -> Any:
        """Does a step, and lets the virtual time pass that the driver needs for it."""
        before = self._meter.ours
        result = step(*args)
        self.clock.now += self._meter.ours - before
        return result

    def _suggest(self) -> bool:
        if self._groups.running >= self._most:
            return False
        trials = self._groups.next(str(self._orchestrator.record.highest + 1))
        self._waiting.extend(trial.number for trial in trials)
        return bool(trials)

    def _hear(self, number: int, epoch: int) -> bool:
        self._orchestrator.reported(number, epoch, epoch, self._metrics[number][epoch - 1])
        return bool(self._groups.left(str(number)))

    def _start(self) -> None:
        while self._waiting and self._free:
            number = self._waiting.popleft()
            self._free -= 1
            self._running[str(number)] = number
            trial = self._orchestrator.record.trials[number]
            noise = np.random.default_rng(number)
            self._metrics[number] = [
                {name: value + NOISE * noise.standard_normal() for name, value in one.items()}
                for one in self._curve(trial)
            ]
            self._advance(self._orchestrator.started, number, "virtual")
            self._train(number, 1)

    def _train(self, number: int, epoch: int) -> None:
        self._beats[str(number)] = f"{epoch} {epoch}".encode()
        heapq.heappush(self._reports, (self.clock.now + self._epoch_s, number, epoch))


@contextmanager
def parts_measured(meter: Meter) -> Iterator[None]:
    """Measures the parts of a driver, wherever they are called."""
    with ExitStack() as stack:
        for part, owner, method in (
            ("Optuna's ask", Study, "ask"),
            ("study", Study, "tell"),
            ("early stopping", EarlyStopping, "decide"),
            ("ledger", Ledger, "append"),
            ("record", SweepRecord, "apply"),
            ("retention", Retention, "__call__"),
            ("orchestrator", Orchestrator, "reported"),
            ("orchestrator", Orchestrator, "next_trial"),
            ("orchestrator", Orchestrator, "started"),
        ):
            stack.enter_context(patch.object(owner, method, meter.wrap(part, getattr(owner, method))))
        yield


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--candidates", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=1_000)
    parser.add_argument("--sampler", choices=("random", "tpe", "nsga2"), default="random")
    parser.add_argument("--early-stopping", choices=("asha", "none"), default="asha")
    parser.add_argument("--epoch-seconds", type=float, default=30.0, help="Virtual seconds of an epoch; a trial has 6.")
    parser.add_argument("--journal", action="store_true", help="Keep Optuna's study on disk, as a real driver does.")
    parser.add_argument("--mlflow", action="store_true", help="Also write everything to MLflow's SQLite store.")
    arguments = parser.parse_args()
    meter = Meter()
    with tempfile.TemporaryDirectory() as name, parts_measured(meter):
        simulate(arguments, meter, Path(name))
        if arguments.mlflow:
            events = read_events(Path(name) / "sweep")[0]
            print(f"MLflow (SQLite): {1e3 * mlflow(events, Path(name)):.1f} ms a trial")


def simulate(arguments: argparse.Namespace, meter: Meter, folder: Path) -> None:
    """Runs a whole sweep, and prints what it cost."""
    space, sweep, curves = load("embedded")
    search = {"sampler": arguments.sampler, "candidates": arguments.candidates}
    stopping = EarlyStoppingConfig(method=arguments.early_stopping, **STOP)
    sweep = sweep.model_copy(update={"search": sweep.search.model_copy(update=search), "early_stopping": stopping})
    record, clock, started = SweepRecord(), Clock(), time.perf_counter()
    with Ledger(folder / "sweep") as ledger:
        opening = header(space, sweep)
        ledger.append(opening)
        record.apply(opening)
        retention = Retention(record, folder / "trials", "complete", print)
        orchestrator = Orchestrator(
            record,
            ledger,
            Study(space, sweep, "simulated", folder=folder / "sweep" if arguments.journal else None),
            sweep,
            num_candidates=num_candidates(space, sweep),
            listeners=[retention],
            clock=clock,
        )
        driver = Driver(orchestrator, clock, curves, meter, workers=arguments.workers, epoch_s=arguments.epoch_seconds)
        driver.run(Table(meter, record, arguments.candidates // 10).row_if_due)
        orchestrator.close(None)
        show(driver, meter, record, time.perf_counter() - started)
        retention.close()


def header(space: Space, sweep: SweepConfig) -> Event:
    """The first event of a sweep."""
    return {
        "event": "sweep",
        "at": 0.0,
        "id": "0" * 32,
        "name": "simulated",
        "varied": list(space.varied()),
        "config": sweep.model_dump(mode="json"),
        "space": {"name": "temp"},
        "versions": {"gaptune": ""},
        "data": {"store": "scenes", "hash": "scenes"},
        "objectives": [asdict(objective) for objective in sweep.wanted],
    }


class Table:
    """A row for each so many trials: CPU milliseconds of each part for a trial, and the memory so far."""

    PARTS = (
        "Optuna's ask", "early stopping", "groups", "orchestrator", "ledger", "record", "study", "heartbeats",
        "retention",
    )  # fmt: skip

    def __init__(self, meter: Meter, record: SweepRecord, every: int) -> None:
        self._meter, self._record, self._every = meter, record, max(1, every)
        self._shown, self._before = 0, Counter(meter.spent)
        print(f"{'trials':>8}{'ours':>7}" + "".join(f"{part:>15}" for part in self.PARTS) + f"{'GiB':>7}")

    def row_if_due(self) -> None:
        """Prints a row if there are enough new trials."""
        new = len(self._record.trials) - self._shown
        if new < self._every:
            return
        spent = {part: 1e3 * (self._meter.spent[part] - self._before[part]) / new for part in self.PARTS}
        self._shown, self._before = self._shown + new, Counter(self._meter.spent)
        cells = "".join(f"{spent[part]:>15.2f}" for part in self.PARTS)
        ours = sum(spent.values()) - spent["Optuna's ask"]
        print(f"{self._shown:>8}{ours:>7.2f}{cells}{memory():>7.2f}", flush=True)


def memory() -> float:
    """The most memory so far, in GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def show(driver: Driver, meter: Meter, record: SweepRecord, wall: float) -> None:
    """Prints what was measured over the whole sweep."""
    count = len(record.trials)
    print(
        f"{count} trials, {len(driver.waits)} reports, {wall:.0f} s; {1e3 * meter.ours / count:.2f} ms of CPU a trial"
    )
    waits = np.array(driver.waits)
    trained = len(waits) * driver._epoch_s
    print(f"a worker waits for an answer {1e3 * waits.mean():.1f} ms, at most {waits.max():.2f} s; ", end="")
    print(f"{waits.sum() / (trained + waits.sum()):.2%} of its time")
    print(f"most memory: {memory():.2f} GiB")


def mlflow(events: list[Event], folder: Path) -> float:
    """Seconds a trial to write everything to a new SQLite store, in batches as the tracker's thread does."""
    from gaptune.tracking import Mirror, default_uri

    mirror, follow = Mirror(default_uri(folder), folder), replay(events[:1])
    mirror.write(follow)
    started = time.perf_counter()
    for first in range(1, len(events), 50):
        batch = events[first : first + 50]
        for event in batch:
            follow.apply(event)
        mirror.write(follow, {event["trial"] for event in batch if "trial" in event})
    return (time.perf_counter() - started) / len(follow.trials)


if __name__ == "__main__":
    main()
