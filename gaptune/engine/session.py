"""One session of a sweep: opened or resumed, trained, evaluated, published."""

from __future__ import annotations

import platform
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import yaml

from gaptune.engine.cluster import ray_for
from gaptune.engine.plan import Plan
from gaptune.engine.publish import write_results
from gaptune.engine.signals import Stop, stopping
from gaptune.ledger import (
    Event,
    Ledger,
    SweepRecord,
)
from gaptune.ledger.backup import Backup
from gaptune.ledger.opening import open_ledger
from gaptune.search.identity import check_same
from gaptune.search.listener import Observer
from gaptune.storage.folder import Folder
from gaptune.tracking import (
    Mirror,
    Tracker,
    check_store,
)


def run(
    plan: Plan,
    *,
    display: Observer,
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
        UserError: Ray cannot be started or joined, a trial needs what there is not, or another process runs the sweep.
        Stopped: A signal came before the ledger was opened.
    """
    for warning in plan.warnings:
        display.say(f"warning: {warning}")
    with ThreadPoolExecutor(1) as beside, stopping() as stop:
        loading = beside.submit(_load)  # Ray's start is mostly waiting: for seconds, that the imports can use
        with ray_for(plan.sweep.resources, address, stop):
            loading.result()
            with stop.held():  # from here on a signal must not come between what belongs together
                return _run(plan, stop, display=display, results=results, tracking_uri=tracking_uri, clock=clock)


def _run(
    plan: Plan,
    stop: Stop,
    *,
    display: Observer,
    results: Path,
    tracking_uri: str | None,
    clock: Callable[[], float],
) -> SweepRecord:
    from gaptune.engine.evaluate_front import evaluate_front
    from gaptune.engine.ray_tune import run_trials
    from gaptune.engine.retention import Retention
    from gaptune.search.orchestrator import Orchestrator
    from gaptune.search.study import Study

    with Ledger(plan.folder) as ledger:
        opened = open_ledger(ledger, plan.place, display.say)
        record, earlier = opened.record, opened.events
        header = record.header or plan.header
        check_same(header, plan.header, plan.folder, more_points=True)
        in_mlflow = check_store(tracking_uri, results, header["id"]).highest if earlier else None
        highest = max(opened.highest[0], -1 if in_mlflow is None else in_mlflow), opened.highest[1]
        session = {
            "event": "session",
            "at": clock(),
            "host": platform.node(),
            "candidates": plan.num_candidates,
            "sweep": header,
        }
        opening: list[Event] = [session] if earlier else [header, session]
        for event in opening:
            ledger.append(event)
            record.apply(event)
        for file, content in (("space", header["space"]), ("sweep", header["config"])):
            (plan.folder / f"{file}.yaml").write_text(
                yaml.safe_dump(content, sort_keys=False, allow_unicode=True), encoding="utf-8"
            )
        mirror = Mirror(tracking_uri, results)
        tracker = Tracker(mirror, record, [*earlier, *opening], display.say)
        kept = {bound.metric: 0.0 for bound in plan.sweep.constraints}  # an older gaptune did not say by how much
        known = [(one[0], one[1], one[2] if len(one) > 2 else kept) for one in header["known"]]
        study = Study(plan.space, plan.sweep, plan.name, folder=plan.folder, known=known)
        if known:
            display.say(f"learned from {study.learned_from} of {len(known)} trials of the earlier sweep")
        backup = Backup(plan.place, plan.folder, display.say) if plan.place else None
        trials = Folder(f"{plan.place.url}/trials") if plan.place else plan.folder / "trials"
        retention = Retention(record, trials, plan.sweep.checkpoints, display.say)
        orchestrator = Orchestrator.resume(
            replace(opened, highest=highest),
            ledger,
            study,
            plan.sweep,
            num_candidates=plan.num_candidates,
            listeners=(tracker, display, retention, *([backup] if backup else [])),
            clock=clock,
        )
        why = "the driver failed"
        try:
            display.start(record, plan.num_candidates * plan.sweep.search.seeds)
            checkpoints = plan.place.url if plan.place else str(plan.folder)
            finished = run_trials(orchestrator, plan.sweep, plan.folder, f"{checkpoints}/trials", stop)
            why = "" if finished else orchestrator.halted or "interrupted"
            if finished:
                evaluate_front(orchestrator, plan.sweep, f"{checkpoints}/trials", display.say, stop)
        except KeyboardInterrupt as error:
            why = str(error) or "interrupted"
        finally:
            display.close()
            orchestrator.close(why or None)
            retention.close(finished=not why)
            if backup is not None and not backup.close():
                display.say(f"the ledger in {plan.sweep.storage} is behind; the same command again copies it")
            write_results(record, plan.folder, mirror, tracker, display)
    return record


def _load() -> None:
    """Imports what takes seconds."""
    import mlflow  # noqa: F401

    import gaptune.engine.ray_tune
    import gaptune.search.study  # noqa: F401
