"""A sweep from its two YAML files to its results: prepared, run, closed.

What is in a sweep's folder: ``ledger.jsonl`` (the truth), ``space.yaml`` and ``sweep.yaml`` (as resolved),
``study.journal`` (Optuna's mirror), ``trials/NNNN`` (checkpoints), ``front.png``, ``results.parquet``, and ``ray``
(Ray's own files).
"""

from __future__ import annotations

import math
import platform
import shlex
import sys
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from gaptune.config import SweepConfig, flatten
from gaptune.data import open_store
from gaptune.display import Display
from gaptune.errors import UserError
from gaptune.ledger import FILE_NAME, SCHEMA, Event, Ledger, SweepRecord, load, read_events, replay
from gaptune.results import Summary, candidates, summarize
from gaptune.results.export import write_parquet
from gaptune.results.plot import plot_front
from gaptune.space import Space
from gaptune.tracking import Mirror, Tracker, UnreachableError, default_uri


@dataclass(frozen=True)
class Plan:
    """A sweep that has been checked and can start.

    Attributes:
        name: Its name.
        folder: Where it is kept.
        space: What may be tried.
        sweep: How trials are run, with what the command line overrides.
        budget: Trials in all.
        header: The ledger's first event.
        earlier: Events of the ledger when the sweep is there already.
    """

    name: str
    folder: Path
    space: Space
    sweep: SweepConfig
    budget: int
    header: Event
    earlier: list[Event]


def prepare(
    space: Space, sweep: SweepConfig, *, name: str, results: Path, now: float, warm_start: str | None = None
) -> Plan:
    """Checks everything that can be checked before a trial starts. Writes nothing but cached data.

    Args:
        space: The search space.
        sweep: How trials are run.
        name: The sweep's name; one that exists is gone on with.
        results: Folder of all sweeps.
        now: Time in seconds since 1970.
        warm_start: Name of another sweep whose completed trials the sampler is told of.

    Raises:
        UserError: Something in space, sweep, data or model cannot work, or the name belongs to another sweep.
    """
    from gaptune.trial.model import check_model

    if sweep.search.sampler == "grid" and not space.grid:
        raise UserError("sampler grid needs a space with `grid: true`", file=space.path)
    for point in space.combinations() if space.grid else space.points:
        _check(space, sweep, point)
    check_model(sweep.model)
    store = open_store(sweep.data.store)
    if sweep.training.batch_size > len(store.split("train")):
        raise UserError(
            f"batch_size {sweep.training.batch_size} is more than the {len(store.split('train'))} training images"
        )
    data = {
        "store": sweep.data.store,
        "name": store.meta.name,
        "hash": store.meta.content_hash,
        "splits": {split: meta.images for split, meta in store.meta.splits.items()},
    }
    budget = len(space.combinations()) if space.grid else sweep.search.trials
    header: Event = {
        "event": "sweep",
        "at": now,
        "schema": SCHEMA,
        "id": uuid.uuid4().hex,
        "name": name,
        "space": space.to_dict(),
        "varied": list(space.varied()),
        "sweep": sweep.model_dump(mode="json"),
        "base": flatten(sweep.trial({})),
        "objectives": [
            {"metric": o.metric, "maximize": o.maximize, "reference": o.reference, "ideal": o.ideal}
            for o in sweep.objectives
        ],
        "data": data,
        "known": _known(results / warm_start, sweep) if warm_start else [],
        "command": shlex.join(["gaptune", *sys.argv[1:]]),
        "versions": versions(),
    }
    folder = results / name
    earlier: list[Event] = []
    if (folder / FILE_NAME).exists():
        earlier, _ = read_events(folder)
    if earlier:  # a driver killed before its first event leaves an empty ledger, which is as good as none
        header = _same_sweep(replay(earlier), header, folder)
    return Plan(name, folder, space, sweep, budget, header, earlier)


def run(
    plan: Plan,
    *,
    display: Display,
    results: Path,
    tracking_uri: str | None,
    address: str | None,
    clock: Callable[[], float],
) -> SweepRecord:
    """Runs a prepared sweep, or goes on with it, until it is done or interrupted.

    Args:
        plan: What ``prepare`` made.
        display: Shows it.
        results: Folder of all sweeps.
        tracking_uri: MLflow's; None for the SQLite store beside the sweeps.
        address: Of a Ray cluster; None for this machine.
        clock: Seconds since 1970.

    Returns:
        The sweep's state at the end.

    Raises:
        UserError: A trial needs what there is not, or another process runs the sweep.
    """
    from gaptune.engine.conductor import Conductor
    from gaptune.engine.raytune import run_trials, start_ray
    from gaptune.engine.study import Asker

    start_ray(plan.sweep.resources, address)
    with Ledger(plan.folder) as ledger:
        for damage in ledger.damages:
            what = "torn by a crash, and cut off" if damage.torn else "damaged, and moved to ledger.quarantine"
            display.say(f"ledger line {damage.line} was {what}")
        earlier = read_events(plan.folder)[0]
        record = replay(earlier)
        opening: list[Event] = [] if earlier else [plan.header]
        opening.append({"event": "session", "at": clock(), "host": platform.node(), "budget": plan.budget})
        for event in opening:
            ledger.append(event)
            record.apply(event)
        for file, content in (("space", plan.header["space"]), ("sweep", plan.header["sweep"])):
            (plan.folder / f"{file}.yaml").write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True))
        mirror = Mirror(tracking_uri or default_uri(results), results)
        tracker = Tracker(mirror, record, [*earlier, *opening], display.say)
        asker = Asker(plan.space, plan.sweep, plan.name, folder=plan.folder, known=plan.header["known"])
        if plan.header["known"]:
            display.say(f"learnt from {asker.learnt_from} of {len(plan.header['known'])} trials of the earlier sweep")
        conductor = Conductor(
            record,
            ledger,
            asker,
            plan.sweep,
            budget=plan.budget,
            earlier=earlier,
            listeners=(tracker, display),
            clock=clock,
        )
        why = "the driver failed"
        try:
            display.start(record, plan.budget * plan.sweep.search.seeds)
            why = "" if run_trials(conductor, plan.sweep, plan.folder) else "interrupted"
        except KeyboardInterrupt:
            why = "interrupted"
        finally:
            display.close()
            conductor.close(why or None)
            _write_results(record, plan.folder, mirror, tracker, display)
    return record


def synchronize(folder: Path, results: Path, tracking_uri: str | None) -> int:
    """Makes MLflow say what a sweep's ledger says, also when the store is empty.

    Args:
        folder: The sweep's folder.
        results: Folder of all sweeps.
        tracking_uri: MLflow's; None for the SQLite store beside the sweeps.

    Returns:
        How many trials are there.

    Raises:
        UserError: MLflow does not answer.
    """
    record = load(folder)
    mirror = Mirror(tracking_uri or default_uri(results), results)
    summary = summarize(record)
    plot_front(record, summary, folder / "front.png")
    write_parquet(record, folder / "results.parquet")
    try:
        mirror.write(record, read_events(folder)[0])
        _send_results(record, folder, mirror, summary)
    except UnreachableError as fault:
        raise UserError(str(fault)) from None
    return len(record.trials)


def versions() -> dict[str, str]:
    """Versions of what a result depends on."""
    names = ("gaptune", "torch", "open_clip_torch", "ray", "optuna", "mlflow", "numpy")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}


def _known(folder: Path, sweep: SweepConfig) -> list[tuple[dict[str, Any], list[float]]]:
    """Configurations and objectives of another sweep's completed candidates, where it measured them."""
    found = [
        (candidate.trial.config, [candidate.mean(objective.metric) for objective in sweep.objectives])
        for candidate in candidates(load(folder))
    ]
    return [(config, values) for config, values in found if not any(map(math.isnan, values))]


def _check(space: Space, sweep: SweepConfig, point: dict[str, Any]) -> None:
    from gaptune.methods import expand_method

    try:
        sweep.trial(expand_method(point))
    except UserError as fault:
        raise UserError(f"the point {point} does not fit this sweep: {fault}", file=space.path) from None


def _same_sweep(record: SweepRecord, header: Event, folder: Path) -> Event:
    """The header of the sweep that is there, if it is the one that is asked for."""
    there = record.header
    if not there:
        raise UserError(f"the first line of {folder / FILE_NAME} is damaged; the sweep cannot be gone on with")
    old, new = _what_matters(there), _what_matters(header)
    changed = [
        f"{name}: {old.get(name)!r} → {new.get(name)!r}"
        for name in sorted({*old, *new})
        if old.get(name) != new.get(name)
    ]
    if changed:
        raise UserError(
            f"sweep {folder.name!r} exists and is another one ({'; '.join(changed[:5])}"
            f"{'; …' if len(changed) > 5 else ''}); give this one another --name"
        )
    return there


def _what_matters(header: Event) -> dict[str, Any]:
    """What makes two sweeps the same: space, data, objectives, and how a trial is trained; not how many run where."""
    flat: dict[str, Any] = {"data.hash": header["data"]["hash"], "search.seeds": header["sweep"]["search"]["seeds"]}
    flat.update({f"space.{name}": knob for name, knob in header["space"]["knobs"].items()})
    for group, value in header["sweep"].items():
        if group in ("resources", "search", "data", "device"):
            continue
        flat.update({f"{group}.{leaf}": v for leaf, v in value.items()} if isinstance(value, dict) else {group: value})
    return flat


def _write_results(record: SweepRecord, folder: Path, mirror: Mirror, tracker: Tracker, display: Display) -> None:
    """Draws and writes what is made from the ledger, here and on the sweep's MLflow run."""
    summary = summarize(record)
    plot_front(record, summary, folder / "front.png")
    write_parquet(record, folder / "results.parquet")
    behind = f"MLflow is behind; when it is back: gaptune sync {folder.name}"
    if not tracker.close():
        display.say(behind)
        return
    try:
        _send_results(record, folder, mirror, summary)
    except Exception as fault:  # the results are on disk, and that is what counts
        display.say(f"{behind} ({type(fault).__name__})")


def _send_results(record: SweepRecord, folder: Path, mirror: Mirror, summary: Summary) -> None:
    numbers = {"sweep/hypervolume": summary.hypervolume, "sweep/front": float(len(summary.front))}
    mirror.log_summary(numbers, record.updated_at)
    mirror.log_artifacts([folder / "front.png", folder / "results.parquet"])
