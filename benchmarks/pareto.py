"""What the mathematics of fronts costs, in the worst case: every point is on the front.

After a cell that takes longer than ``--patience``, larger ones of its column are left out. The last two are what early
stopping needs at a rung: a cloud of points that arrive one by one, and the rank of a point in a layer.

    python benchmarks/pareto.py [--patience 60]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from gaptune.ledger import ReportRecord, State, SweepHeader, SweepRecord, TrialRecord
from gaptune.pareto.hypervolume import contributions, hypervolume
from gaptune.pareto.objectives import Objective, Objectives
from gaptune.pareto.ranking import last_in_layer
from gaptune.pareto.sorted_points import SortedPoints
from gaptune.results import candidates, summarize
from gaptune.results.history import history
from gaptune.results.stability import front_fractions

SIZES = (100, 300, 1_000, 10_000)
OBJECTIVES = (2, 3, 4)
Points = npt.NDArray[np.float64]


def sphere(count: int, objectives: int) -> Points:
    """Points none of which dominates another, between 0 and 1."""
    points = np.abs(np.random.default_rng(0).normal(size=(count, objectives)))
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def record(points: Points, seeds: int = 1) -> SweepRecord:
    """A sweep whose candidates came to some points, a little apart for each seed."""
    names = [f"objective/{index}" for index in range(points.shape[1])]
    objectives = Objectives(Objective(name, maximize=True, reference=0.0, ideal=1.0) for name in names)
    made = SweepRecord(header=SweepHeader(name="benchmark", objectives=objectives))
    noise = np.random.default_rng(1).normal(scale=0.01, size=(len(points), seeds, points.shape[1]))
    for candidate, values in enumerate(points[:, None] + noise):
        for each in values:
            number = len(made.trials)
            trial = TrialRecord(number, candidate, {}, {"training.epochs": 1}, "FLT", 0.0, State.COMPLETE)
            trial.reports.append(ReportRecord(1, 1, float(number), dict(zip(names, each.tolist(), strict=True))))
            trial.ended_at = float(number)
            made.trials[number] = trial
    return made


def fractions(points: Points) -> None:
    repeated = record(points, seeds=5)
    front_fractions(repeated, candidates(repeated))


def arrivals(points: Points) -> None:
    arrived = SortedPoints()
    for point in np.random.default_rng(2).normal(size=points.shape):
        arrived.add(point)


CASES: dict[str, tuple[Callable[[Points], object], tuple[int, ...]]] = {
    "hypervolume": (lambda points: hypervolume(points, np.zeros(points.shape[1])), SIZES),
    "contributions": (lambda points: contributions(points, np.zeros(points.shape[1])), SIZES[:3]),
    "history": (lambda points: history(record(points)), SIZES),
    "summarize": (lambda points: summarize(record(points)), SIZES),
    "front_shares": (fractions, SIZES[:3]),
    "all arrivals": (arrivals, SIZES),
    "last_in_layer": (lambda points: last_in_layer(points, "epsilon_net"), SIZES),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--patience", type=float, default=60.0, help="Seconds after which a column ends.")
    patience = parser.parse_args().patience
    print(f"{'seconds of CPU':<16}{'points':>7}" + "".join(f"{count:>11} obj." for count in OBJECTIVES))
    for name, (case, sizes) in CASES.items():
        given_up: set[int] = set()
        for size in sizes:
            cells = []
            for objectives in OBJECTIVES:
                if objectives in given_up:
                    cells.append(f"{'-':>16}")
                    continue
                points = sphere(size, objectives)
                started = time.process_time()
                case(points)
                took = time.process_time() - started
                cells.append(f"{took:>16.4f}")
                if took > patience:
                    given_up.add(objectives)
            print(f"{name:<16}{size:>7}{''.join(cells)}", flush=True)


if __name__ == "__main__":
    main()
