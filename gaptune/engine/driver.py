"""One session of a sweep on a running Ray: open or resume, train, evaluate the front, publish the results."""

from __future__ import annotations

import platform
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import yaml

from gaptune.engine.evaluate_front import evaluate_front
from gaptune.engine.plan import Plan
from gaptune.engine.publish import write_results
from gaptune.engine.ray_tune import run_trials
from gaptune.engine.retention import Retention
from gaptune.engine.shared_paths import create_results
from gaptune.engine.signals import Stop
from gaptune.ledger import Event, Ledger, SweepHeader, SweepRecord
from gaptune.ledger.backup import Backup
from gaptune.ledger.opening import Opened, open_ledger
from gaptune.search.identity import check_same
from gaptune.search.listener import Observer
from gaptune.search.orchestrator import Orchestrator
from gaptune.search.study import Study
from gaptune.storage.folder import Folder
from gaptune.tracking import Mirror, Tracker, check_store

Clock = Callable[[], float]


@dataclass(frozen=True)
class _Opened(Opened):
    """A sweep's ledger, opened for this session.

    Attributes:
        ledger: The ledger, locked.
        opening: This session's own events, which are in the record and not in ``events``.
    """

    ledger: Ledger
    opening: list[Event]


@dataclass(frozen=True)
class _Session:
    """A running sweep, with everything that follows it.

    Attributes:
        orchestrator: Decides what runs next, and keeps the record.
        display: Shows the sweep.
        mirror: The sweep in MLflow.
        tracker: Keeps the mirror up to date.
        retention: Removes checkpoints that are not needed.
        backup: Copies the ledger to the sweep's storage, if it has one.
    """

    orchestrator: Orchestrator
    display: Observer
    mirror: Mirror
    tracker: Tracker
    retention: Retention
    backup: Backup | None


def drive(
    plan: Plan, stop: Stop, *, display: Observer, results: Path, tracking_uri: str | None, clock: Clock
) -> SweepRecord:
    """Runs a session of a sweep. Everything that it starts has ended afterwards, also after an error.

    Args:
        plan: The sweep, checked by ``prepare``.
        stop: Whether the session should end early.
        display: Shows the sweep.
        results: Directory of all sweeps.
        tracking_uri: MLflow's tracking URI; None for the SQLite store beside the sweeps.
        clock: Seconds since 1970.

    Returns:
        The sweep's state at the end.

    Raises:
        UserError: Another process runs the sweep, or its ledger cannot be used.
    """
    with ExitStack() as stack:
        opened = _open_or_resume(plan, stack, display=display, results=results, tracking_uri=tracking_uri, clock=clock)
        session = _follow(plan, opened, stack, display=display, mirror=Mirror(tracking_uri, results), clock=clock)
        interrupted = "the driver failed"
        try:
            interrupted = _train(session, plan, stop)
        finally:
            _close(session, plan, interrupted)
            write_results(opened.record, plan.folder, session.mirror, session.tracker, display)
    return opened.record


def _open_or_resume(
    plan: Plan, stack: ExitStack, *, display: Observer, results: Path, tracking_uri: str | None, clock: Clock
) -> _Opened:
    """Locks the ledger, and begins a session in it."""
    ledger = stack.enter_context(Ledger(plan.folder))
    found = open_ledger(ledger, plan.place, display.say)
    header = found.record.header or plan.header
    check_same(header, plan.header, plan.folder, more_points=True)
    in_mlflow = check_store(tracking_uri, results, header.id).highest if found.events else None
    session = {
        "event": "session",
        "at": clock(),
        "host": platform.node(),
        "candidates": plan.num_candidates,
        "gpu": plan.gpus.number,
        "sweep": header.event,
    }
    opening: list[Event] = [session] if found.events else [header.event, session]
    for event in opening:
        ledger.append(event)
        found.record.apply(event)
    for file, content in (("space", header.space), ("sweep", header.config)):
        text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
        (plan.folder / f"{file}.yaml").write_text(text, encoding="utf-8")
    highest = max(found.highest[0], -1 if in_mlflow is None else in_mlflow), found.highest[1]
    return _Opened(found.events, found.record, highest, ledger, opening)


def _follow(
    plan: Plan, opened: _Opened, stack: ExitStack, *, display: Observer, mirror: Mirror, clock: Clock
) -> _Session:
    """Starts everything that follows the sweep, then the orchestrator, which replays what there is."""
    record = opened.record
    tracker = Tracker(mirror, record, [*opened.events, *opened.opening], display.say)
    stack.callback(tracker.close)
    study = _study(plan, record.header, display)
    backup = Backup(plan.place, plan.folder, display.say) if plan.place else None
    if backup:
        stack.callback(backup.close)
    trials = Folder(f"{plan.place.url}/trials") if plan.place else plan.folder / "trials"
    retention = Retention(record, trials, plan.sweep.checkpoints, display.say)
    stack.callback(retention.close)
    orchestrator = Orchestrator.resume(
        opened,
        opened.ledger,
        study,
        plan.sweep,
        num_candidates=plan.num_candidates,
        listeners=(tracker, display, retention, *([backup] if backup else [])),
        clock=clock,
    )
    return _Session(orchestrator, display, mirror, tracker, retention, backup)


def _study(plan: Plan, header: SweepHeader, display: Observer) -> Study:
    """The study, which learns from the sweep of ``--warm-start``."""
    known = [(one.config, one.values, one.violations) for one in header.known]
    study = Study(plan.space, plan.sweep, plan.name, folder=plan.folder, known=known)
    if known:
        display.say(f"learned from {study.learned_from} of {len(known)} trials of the earlier sweep")
    return study


def _train(session: _Session, plan: Plan, stop: Stop) -> str:
    """Runs the trials, then evaluates the front; returns why the sweep was interrupted, or "" if it is done."""
    orchestrator, display = session.orchestrator, session.display
    checkpoints = f"{plan.place.url if plan.place else plan.folder.absolute()}/trials"  # workers run elsewhere
    create_results(checkpoints)
    try:
        display.start(orchestrator.record, plan.num_candidates * plan.sweep.search.seeds)
        if not run_trials(orchestrator, plan.sweep, plan.folder, checkpoints, stop, display.progress, display.say):
            return orchestrator.halted or "interrupted"
        evaluate_front(orchestrator, plan.sweep, checkpoints, display.say, stop)
    except KeyboardInterrupt as error:
        return str(error) or "interrupted"
    return ""


def _close(session: _Session, plan: Plan, interrupted: str) -> None:
    """Ends what follows the sweep; the tracker last, as the results are written."""
    session.display.close()
    session.orchestrator.close(interrupted or None)
    session.retention.close()
    if session.backup is not None and not session.backup.close():
        session.display.say(f"the ledger in {plan.sweep.storage} is behind; run the same command again to copy it")
