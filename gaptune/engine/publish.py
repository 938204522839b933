"""Writes what is derived from a sweep's ledger, here and in MLflow: plot, table, report. Each is independent."""

from __future__ import annotations

import json
import os
import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from gaptune.errors import UserError
from gaptune.ledger import SweepRecord, in_use, load
from gaptune.report import REPORT_FILE, write_report
from gaptune.results import summarize
from gaptune.results.correlation import correlations
from gaptune.results.export import write_parquet
from gaptune.results.headline import headline
from gaptune.results.plots.front import plot_front
from gaptune.search.listener import Observer
from gaptune.text.markup import for_markdown
from gaptune.tracking import (
    PATIENCE_S,
    Mirror,
    Tracker,
    UnreachableError,
    check_store,
    default_uri,
    describe,
    first_line,
    limited,
)
from gaptune.tracking.links import RUNS_FILE

_SYNC_S = 600.0
"""Seconds that `gaptune sync` waits at most for the upload of results; an unreachable server is given up earlier."""


def write_results(record: SweepRecord, folder: Path, mirror: Mirror, tracker: Tracker, display: Observer) -> None:
    """Writes everything that is derived from the ledger, here and in MLflow; no error in it ends a sweep."""
    behind = f"MLflow is not up to date; when it is back: {_sync_command(folder, mirror)}"
    _draw_results(record, folder, display.say)
    started = time.monotonic()
    whole = tracker.close(PATIENCE_S)
    left = PATIENCE_S - (time.monotonic() - started)
    _write_page(record, folder, mirror, display.say)
    if not whole:
        display.say(behind)
        return
    try:
        _send_results(record, folder, mirror, left)
    except Exception as error:  # the results are on disk
        display.say(f"{behind} ({first_line(error)})")


def _draw_results(record: SweepRecord, folder: Path, say: Callable[[str], None]) -> None:
    again = _command("sync", folder)
    with _guarded("front.png", again, say):
        plot_front(record, summarize(record), folder / "front.png")
    with _guarded("results.parquet", again, say):
        write_parquet(record, folder / "results.parquet")


def _write_page(record: SweepRecord, folder: Path, mirror: Mirror, say: Callable[[str], None]) -> None:
    """Writes the report, and the file that its links to MLflow need."""
    with _guarded(RUNS_FILE, _command("sync", folder), say):
        runs = mirror.runs()
        if runs is not None:
            (folder / RUNS_FILE).write_text(json.dumps(runs), encoding="utf-8")
    with _guarded(REPORT_FILE, _command("report", folder), say):
        write_report(record, folder, folder / REPORT_FILE, mlflow_url=mirror.pages)


@contextmanager
def _guarded(file: str, again: str, say: Callable[[str], None]) -> Iterator[None]:
    """Reports an error in writing one result, so that the others are still written."""
    try:
        yield
    except Exception as error:
        say(f"{file} could not be written ({first_line(error)}); to write it: {again}")


def _send_results(record: SweepRecord, folder: Path, mirror: Mirror, patience: float) -> None:
    """Writes the sweep's results to its MLflow run; gives up after ``patience`` seconds."""
    summary = summarize(record)
    numbers = {"sweep/front": float(len(summary.front))}
    if summary.hypervolume is not None:
        numbers["sweep/hypervolume"] = summary.hypervolume
    ranks = {trial.number: rank for rank, member in enumerate(summary.front, 1) for trial in member.trials}
    files = [folder / name for name in ("front.png", "results.parquet", REPORT_FILE)]
    limited(patience, lambda: mirror.log_results(record, numbers, ranks, note(record), files))


def note(record: SweepRecord) -> str:
    """The description of a sweep's run in MLflow, in Markdown: the objectives and the results."""
    sentences = headline(record, summarize(record), correlations(record))
    outcome = "\n".join(f"- {for_markdown(sentence)}" for sentence in sentences)
    return f"{describe(record.header)}\n\n{outcome}"


def _sync_command(folder: Path, mirror: Mirror) -> str:
    """The command that updates MLflow later, in the same directory and environment."""
    known = (default_uri(folder.parent), os.environ.get("MLFLOW_TRACKING_URI"))
    there = [] if mirror.uri in known or "@" in mirror.uri else ["--tracking-uri", mirror.uri]  # prints no passwords
    return " ".join([_command("sync", folder), *map(shlex.quote, there)])


def _command(verb: str, folder: Path) -> str:
    """A command for a sweep, to be typed in the current directory."""
    here = [Path(place).absolute() for place in (os.environ.get("GAPTUNE_RESULTS"), "results") if place]
    where = [] if folder.parent.absolute() == here[0] else ["--results", str(folder.parent)]
    return shlex.join(["gaptune", verb, folder.name, *where])


def synchronize(folder: Path, results: Path, tracking_uri: str | None, say: Callable[[str], None] = print) -> int:
    """Brings MLflow up to date with a sweep's ledger, even if the store is empty or incomplete.

    Args:
        folder: Directory of the sweep.
        results: Directory of all sweeps.
        tracking_uri: MLflow's tracking URI; None for the SQLite store in the results directory.
        say: Callback that prints a line.

    Returns:
        Number of trials in MLflow.

    Raises:
        UserError: MLflow is unreachable, or its store cannot be used.
    """
    record = load(folder)
    if record.paused is None and not record.done and not in_use(folder):
        record.paused = "its driver was killed"  # its runs will not continue by themselves
    mirror = Mirror(tracking_uri, results)
    _draw_results(record, folder, say)
    try:
        state = check_store(tracking_uri, results)
        if not state.answers:
            raise UserError(state.why)
        for line in mirror.write(record):
            say(line)
    except UnreachableError as error:
        raise UserError(str(error)) from None
    finally:
        _write_page(record, folder, mirror, say)
    try:
        _send_results(record, folder, mirror, _SYNC_S)
    except UnreachableError as error:
        raise UserError(str(error)) from None
    return len(record.trials)
