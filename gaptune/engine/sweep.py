"""A sweep from its two YAML files to its results: prepared, run, closed.

What is in a sweep's folder: ``ledger.jsonl`` (the truth), ``space.yaml`` and ``sweep.yaml`` (as resolved),
``study.journal`` (Optuna's mirror), ``trials/NNNN`` (checkpoints; of ended trials what is needed), ``front.png``,
``results.parquet``, ``report.html``, ``mlflow.json`` (which run is whose), and ``ray`` (Ray's own files).
"""

from __future__ import annotations

import json
import math
import platform
import shlex
import sys
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from gaptune.config import SweepConfig, flatten
from gaptune.data import check_reference, open_training
from gaptune.display import Display
from gaptune.engine.backup import Backup, newer_ledger
from gaptune.errors import UserError
from gaptune.ledger import FILE_NAME, SCHEMA, Event, Ledger, SweepRecord, load, parse_events, read_events, replay
from gaptune.models import check_model
from gaptune.pages import RUNS_FILE
from gaptune.remote import Folder
from gaptune.report import REPORT_FILE, headline, write_report
from gaptune.results import Summary, candidates, summarize
from gaptune.results.correlation import correlations
from gaptune.results.export import write_parquet
from gaptune.results.plot import plot_front
from gaptune.space import Space
from gaptune.tracking import Mirror, Tracker, UnreachableError, default_uri, describe


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
        place: The sweep's folder in its storage, if it has one.
        brought: The ledger as the storage has it, when that knows more than the one here.
    """

    name: str
    folder: Path
    space: Space
    sweep: SweepConfig
    budget: int
    header: Event
    earlier: list[Event]
    place: Folder | None = None
    brought: bytes | None = None


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
    if sweep.search.sampler == "grid" and not space.grid:
        raise UserError("sampler grid needs a space with `grid: true`", file=space.path)
    for point in space.combinations() if space.grid else space.points:
        _check(space, sweep, point)
    check_model(sweep.model)
    if sweep.model.pretrained or sweep.model.freeze:
        from gaptune.trial.pretrained import check_pretrained  # torch, which takes seconds

        check_pretrained(sweep.model)
    store = open_training(sweep.data)
    if sweep.training.batch_size > len(store.split("train")):
        raise UserError(
            f"batch_size {sweep.training.batch_size} is more than the {len(store.split('train'))} training images"
        )
    for evaluation in sweep.evaluate:
        check_reference(evaluation.data)
    data = {
        "store": store.meta.name if sweep.data.mix else sweep.data.store,
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
    place = Folder(f"{sweep.storage.rstrip('/')}/{name}") if sweep.storage else None
    brought = newer_ledger(place, folder) if place else None
    earlier: list[Event] = []
    if brought is not None:
        earlier, _ = parse_events(brought)
    elif (folder / FILE_NAME).exists():
        earlier, _ = read_events(folder)
    if earlier:  # a driver killed before its first event leaves an empty ledger, which is as good as none
        header = _same_sweep(replay(earlier), header, folder)
    return Plan(name, folder, space, sweep, budget, header, earlier, place, brought)


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
    from gaptune.engine.cluster import start_ray

    with ThreadPoolExecutor(1) as beside:  # Ray's start is mostly waiting: for seconds, that the imports can use
        loading = beside.submit(_load)
        start_ray(plan.sweep.resources, address)
        loading.result()
    from gaptune.engine.conductor import Conductor
    from gaptune.engine.front_scores import score_front
    from gaptune.engine.raytune import run_trials
    from gaptune.engine.retention import Retention
    from gaptune.engine.study import Asker

    if plan.brought is not None:
        plan.folder.mkdir(parents=True, exist_ok=True)
        (plan.folder / FILE_NAME).write_bytes(plan.brought)
        display.say(f"going on with the ledger of {plan.sweep.storage}")
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
        backup = Backup(plan.place, plan.folder, display.say) if plan.place else None
        trials = Folder(f"{plan.place.url}/trials") if plan.place else plan.folder / "trials"
        retention = Retention(record, trials, plan.sweep.checkpoints, display.say)
        conductor = Conductor(
            record,
            ledger,
            asker,
            plan.sweep,
            budget=plan.budget,
            earlier=earlier,
            listeners=(tracker, display, retention, *([backup] if backup else [])),
            clock=clock,
        )
        why = "the driver failed"
        try:
            display.start(record, plan.budget * plan.sweep.search.seeds)
            checkpoints = plan.place.url if plan.place else str(plan.folder)
            finished = run_trials(conductor, plan.sweep, plan.folder, f"{checkpoints}/trials")
            why = "" if finished else conductor.halted or "interrupted"
            if finished:
                score_front(conductor, plan.sweep, f"{checkpoints}/trials", display.say)
        except KeyboardInterrupt:
            why = "interrupted"
        finally:
            display.close()
            conductor.close(why or None)
            retention.close(finished=not why)
            if backup is not None and not backup.close():
                display.say(f"the ledger in {plan.sweep.storage} is behind; the same command again copies it")
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


def _load() -> None:
    """Imports what takes seconds."""
    import mlflow  # noqa: F401

    import gaptune.engine.raytune
    import gaptune.engine.study  # noqa: F401


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
    sweep = SweepConfig.model_validate(header["sweep"]).model_dump(mode="json")  # an older one lacks newer settings
    flat: dict[str, Any] = {"data.hash": header["data"]["hash"], "search.seeds": sweep["search"]["seeds"]}
    flat.update({f"space.{name}": knob for name, knob in header["space"]["knobs"].items()})
    for group, value in sweep.items():
        if group in ("resources", "search", "data", "device", "storage", "checkpoints"):
            continue
        flat.update({f"{group}.{leaf}": v for leaf, v in value.items()} if isinstance(value, dict) else {group: value})
    return flat


def _write_results(record: SweepRecord, folder: Path, mirror: Mirror, tracker: Tracker, display: Display) -> None:
    """Draws and writes what is made from the ledger, here and on the sweep's MLflow run."""
    summary = summarize(record)
    try:
        plot_front(record, summary, folder / "front.png")
        write_parquet(record, folder / "results.parquet")
    except OSError as fault:  # they can be made again: gaptune sync
        display.say(f"the results could not be written: {fault}")
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
    ranks = {trial.number: rank for rank, member in enumerate(summary.front, 1) for trial in member.trials}
    outcome = "\n".join(f"- {sentence}" for sentence in headline(record, summary, correlations(record)))
    mirror.log_front(ranks, f"{describe(record.header)}\n\n{outcome}")
    (folder / RUNS_FILE).write_text(json.dumps(mirror.runs()), encoding="utf-8")
    write_report(record, folder, folder / REPORT_FILE, mlflow_url=mirror.pages)
    mirror.log_artifacts([folder / name for name in ("front.png", "results.parquet", REPORT_FILE)])
