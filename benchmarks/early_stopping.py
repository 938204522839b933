"""Hypervolume against epochs spent, by early-stopping method, replayed on recorded learning curves.

Every arm may spend the epochs of ``--candidates`` full trainings. Only trials trained to the end count. The curves were
recorded by ``benchmarks/record.py``; a set of parameters that was not recorded gets the nearest recorded curve. The arm
``MOASHA`` is Syne Tune's (``pip install syne-tune``, 0.16), and is left out where that is not installed.

    python benchmarks/early_stopping.py [--seeds 30] [--candidates 32] [--workers 4] [--plot FILE]
"""

from __future__ import annotations

import argparse
import contextlib
import heapq
import io
import random
from concurrent.futures import ProcessPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from gaptune.config import EarlyStoppingConfig, SweepConfig, load_sweep_config
from gaptune.ledger import TrialRecord
from gaptune.simulation.curves import Curves
from gaptune.simulation.play import simulate
from gaptune.space.model import Space
from gaptune.space.parse import load_space

ROOT = Path(__file__).resolve().parent.parent
SETS = ("embedded", "flickr8k")
STOP = {"min_fraction": 1 / 6, "reduction_factor": 3.0}
ARMS: dict[str, tuple[str, str]] = {  # sampler, early stopping
    "random search": ("random", "none"),
    "TPE": ("tpe", "none"),
    "TPE + random stopping": ("tpe", "random"),
    "TPE + ASHA": ("tpe", "asha"),
    "random search + ASHA": ("random", "asha"),
}
MOASHA = "MOASHA (Syne Tune)"


def load(name: str) -> tuple[Space, SweepConfig, Curves]:
    """A recorded set: its space without given points, its sweep, its curves."""
    space = load_space(ROOT / "search_spaces/temp.yaml")
    space = Space(space.name, space.parameters)
    return (
        space,
        load_sweep_config(ROOT / f"sweeps/{name}.yaml"),
        Curves.read(ROOT / f"benchmarks/curves/{name}.parquet", space),
    )


def ours(name: str, arm: str, trials: int, workers: int, seed: int) -> list[tuple[int, float]]:
    """Epochs spent and hypervolume whenever a trial of a simulated sweep completes."""
    space, sweep, curves = load(name)
    sampler, rule = ARMS[arm]
    most = trials if rule == "none" else 4 * trials  # more candidates for the epochs that stopping saves
    sweep = sweep.model_copy(
        update={
            "search": sweep.search.model_copy(update={"sampler": sampler, "candidates": most, "seed": seed}),
            "early_stopping": EarlyStoppingConfig(method=rule, seed=seed, **STOP),
        }
    )
    _, events = simulate(space, sweep, curves, workers=workers)
    spent, latest, done = 0, {}, []
    for event in events:
        if event["event"] == "report":
            spent += 1
            latest[event["trial"]] = event["metrics"]
        elif event["event"] == "end" and event["state"] == "COMPLETE":
            done.append((spent, latest[event["trial"]]))
    return progress(sweep, done)


def moasha(name: str, trials: int, workers: int, seed: int) -> list[tuple[int, float]]:
    """The same for Syne Tune's MOASHA, which draws at random, in the same virtual time."""
    import syne_tune.config_space as cs
    from syne_tune.backend.trial_status import Trial
    from syne_tune.optimizer.scheduler import SchedulerDecision
    from syne_tune.optimizer.schedulers.multiobjective import moasha as module

    space, sweep, curves = load(name)
    epochs, objectives = sweep.training.epochs, sweep.objectives
    domain: dict[str, Any] = {}
    for parameter in space.parameters:
        of = parameter.distribution
        if hasattr(of, "values"):
            domain[parameter.name] = cs.choice(list(of.values))
        else:
            domain[parameter.name] = (cs.loguniform if of.log else cs.uniform)(of.low, of.high)
    np.random.seed(seed)  # noqa: NPY002 - it is what Syne Tune draws from
    random.seed(seed)
    scheduler = module.MOASHA(
        domain,
        metrics=[o.metric for o in objectives],
        time_attr="epoch",
        max_t=epochs,
        grace_period=1,
        reduction_factor=STOP["reduction_factor"],
    )
    running: list[tuple[float, int, int]] = []
    live: dict[int, tuple[Trial, Any]] = {}
    done: list[tuple[int, dict[str, float]]] = []
    spent, number = 0, 0

    def start(now: float) -> None:
        nonlocal number
        config = scheduler.suggest().config
        params: dict[str, Any] = {}
        for parameter in space.parameters:  # what is not active in a draw does not belong to it
            if parameter.active(params):
                params[parameter.name] = config[parameter.name]
        trial = Trial(number, config, datetime(2026, 1, 1))
        scheduler.on_trial_add(trial)
        live[number] = trial, curves(TrialRecord(number, number, params, {}, "", now))
        heapq.heappush(running, (now + 1.0, number, 1))
        number += 1

    with contextlib.redirect_stdout(io.StringIO()):
        for _ in range(workers):
            start(0.0)
        while spent < trials * epochs:
            now, which, epoch = heapq.heappop(running)
            trial, curve = live[which]
            result = {
                "epoch": epoch,
                **{o.metric: (-1 if o.maximize else 1) * curve[epoch - 1][o.metric] for o in objectives},
            }
            spent += 1
            if epoch == epochs:
                done.append((spent, curve[-1]))
                scheduler.on_trial_complete(trial, result)
                start(now)
            elif scheduler.on_trial_result(trial, result) == SchedulerDecision.CONTINUE:
                heapq.heappush(running, (now + 1.0, which, epoch + 1))
            else:
                scheduler.on_trial_remove(trial)
                start(now)
    return progress(sweep, done)


def progress(sweep: SweepConfig, done: list[tuple[int, dict[str, float]]]) -> list[tuple[int, float]]:
    """Hypervolume of all that is complete so far, at each completion."""
    goals = sweep.wanted
    values = [[metrics[name] for name in goals.metrics] for _, metrics in done]
    return [(spent, goals.hypervolume(values[: count + 1])) for count, (spent, _) in enumerate(done)]


def at(curve: list[tuple[int, float]], spent: int) -> float:
    """The hypervolume after some epochs."""
    return max((value for epochs, value in curve if epochs <= spent), default=0.0)


def _one(task: tuple[str, str, int, int, int]) -> list[tuple[int, float]]:
    name, arm, trials, workers, seed = task
    return moasha(name, trials, workers, seed) if arm == MOASHA else ours(name, arm, trials, workers, seed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=30)
    parser.add_argument("--candidates", type=int, default=32)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--sets", nargs="+", default=SETS, choices=SETS)
    parser.add_argument("--plot", type=Path)
    arguments = parser.parse_args()
    arms = list(ARMS)
    with contextlib.suppress(ImportError):
        import syne_tune  # noqa: F401

        arms.append(MOASHA)
    found: dict[str, dict[str, np.ndarray]] = {}
    with ProcessPoolExecutor() as pool:
        for name in arguments.sets:
            total = arguments.candidates * load(name)[1].training.epochs
            grid = np.unique(np.linspace(0, total, 101).astype(int))
            curves = len(load(name)[2])
            print(f"\n{name}: {curves} recorded curves; {total} epochs; {arguments.seeds} seeds ± standard error")
            found[name] = {"grid": grid}
            for arm in arms:
                tasks = [(name, arm, arguments.candidates, arguments.workers, seed) for seed in range(arguments.seeds)]
                found[name][arm] = np.array([[at(curve, spent) for spent in grid] for curve in pool.map(_one, tasks)])
            report(found[name], arms, total)
    if arguments.plot:
        draw(found, arms, arguments.plot)


def report(found: dict[str, np.ndarray], arms: list[str], total: int) -> None:
    """Prints a row per arm: hypervolume at some fractions of the epochs, and when it got to 95% of TPE's last."""
    grid, goal = found["grid"], 0.95 * found["TPE"][:, -1].mean()
    print(
        f"{'':26}" + "".join(f"{f'at {fraction:.0%}':>18}" for fraction in (0.2, 0.4, 1.0)) + f"{'95% of TPE at':>18}"
    )
    for arm in arms:
        values = found[arm]
        cells = []
        for fraction in (0.2, 0.4, 1.0):
            column = values[:, np.searchsorted(grid, fraction * total, side="right") - 1]
            cells.append(f"{column.mean():.4f} ± {column.std(ddof=1) / np.sqrt(len(column)):.4f}")
        there = np.flatnonzero(values.mean(axis=0) >= goal)
        cells.append(f"{grid[there[0]] / total:.0%} of epochs" if len(there) else "never")
        print(f"{arm:26}" + "".join(f"{cell:>18}" for cell in cells))


def draw(found: dict[str, dict[str, np.ndarray]], arms: list[str], path: Path) -> None:
    """Means with a band of one standard error."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(found), figsize=(5.5 * len(found), 4), squeeze=False)
    for axis, (name, values) in zip(axes[0], found.items(), strict=True):
        for arm in arms:
            mean = values[arm].mean(axis=0)
            error = values[arm].std(axis=0, ddof=1) / np.sqrt(len(values[arm]))
            axis.plot(values["grid"], mean, label=arm)
            axis.fill_between(values["grid"], mean - error, mean + error, alpha=0.2)
        axis.axhline(0.95 * values["TPE"][:, -1].mean(), color="gray", linewidth=0.8, linestyle=":")
        axis.set(title=name, xlabel="epochs spent", ylabel="hypervolume of completed trials")
    axes[0][0].legend(frameon=False, fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=130)


if __name__ == "__main__":
    main()
