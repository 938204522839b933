"""What control costs: early stopping, ledger and MLflow for thousands of simulated trials, beside Optuna's own ask.

The trials replay the recorded embedded curves; everything else is real: the orchestrator, the ledger with its fsyncs on
disk, MLflow's SQLite store. Parameters are drawn at random, because the cost of Optuna's samplers is not ours; the time
spent in ``ask`` is measured and taken off all the same.

    python benchmarks/control.py [--candidates 10000]
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from early_stopping import STOP, load

from gaptune.config import EarlyStoppingConfig
from gaptune.ledger import Event, Ledger, SweepRecord, replay
from gaptune.ledger.header import DataInfo
from gaptune.search.study import Study
from gaptune.simulation.play import simulate
from gaptune.tracking import Mirror, default_uri


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--candidates", type=int, default=10_000)
    arguments = parser.parse_args()
    space, sweep, curves = load("embedded")
    sweep = sweep.model_copy(
        update={
            "search": sweep.search.model_copy(update={"sampler": "random", "candidates": arguments.candidates}),
            "early_stopping": EarlyStoppingConfig(method="asha", **STOP),
        }
    )
    spent = {"ask": 0.0, "ledger": 0.0}
    drawn: list[tuple[float, float]] = []  # at each draw: the time, and the part of it that is not ours
    plain_ask = Study.ask

    def ask(self: Study) -> tuple[int, dict[str, Any]]:
        started = time.perf_counter()
        try:
            return plain_ask(self)
        finally:
            spent["ask"] += time.perf_counter() - started
            drawn.append((time.perf_counter(), spent["ask"]))

    Study.ask = ask  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with Ledger(folder / "sweep") as ledger:

            def write(event: Event) -> None:
                started = time.perf_counter()
                ledger.append(event, durable=event["event"] != "report")
                spent["ledger"] += time.perf_counter() - started

            started = time.perf_counter()
            record, events = simulate(space, sweep, curves, workers=64, listeners=[write])
            wall = time.perf_counter() - started
        last = drawn[-(len(drawn) // 10) :]
        tail = (last[-1][0] - last[0][0] - last[-1][1] + last[0][1]) / len(last)
        print(f"{len(record.trials)} trials, {sum(trial.epoch for trial in record.trials.values())} epochs")
        print(f"all of it {wall:.1f} s, of which Optuna's ask {spent['ask']:.1f} s, ledger {spent['ledger']:.1f} s")
        print(f"early stopping, ledger, study: {1e3 * (wall - spent['ask']) / len(record.trials):.1f} ms a trial;")
        print(f"over the last tenth of the trials: {1e3 * tail:.1f} ms")
        print(f"MLflow (SQLite): {1e3 * mlflow(record, events, folder):.1f} ms a trial")
    print(f"most memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")


def mlflow(record: SweepRecord, events: list[Event], folder: Path) -> float:
    """Seconds a trial to write everything to a new SQLite store, in batches as the tracker's thread does."""
    data = DataInfo("scenes", "scenes")
    record.header = replace(record.header, id="0" * 32, space={"name": "temp"}, versions={"gaptune": ""}, data=data)
    mirror, follow = Mirror(default_uri(folder), folder), replay(events[:1])
    mirror.write(follow)
    started = time.perf_counter()
    for first in range(1, len(events), 50):
        batch = events[first : first + 50]
        for event in batch:
            follow.apply(event)
        mirror.write(follow, {event["trial"] for event in batch if "trial" in event})
    return (time.perf_counter() - started) / len(record.trials)


if __name__ == "__main__":
    main()
