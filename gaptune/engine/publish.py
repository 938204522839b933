"""What is made from a sweep's ledger, here and in MLflow: pictures, tables, the report. Each is written by itself."""

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
"""The longest that `gaptune sync` waits for the results to be sent; what does not answer is given up far earlier."""


def write_results(record: SweepRecord, folder: Path, mirror: Mirror, tracker: Tracker, display: Observer) -> None:
    """Draws and writes what is made from the ledger, here and in MLflow; no fault of it ends a sweep."""
    behind = f"MLflow is behind; when it is back: {_sync_command(folder, mirror)}"
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
    except Exception as error:  # the results are on disk, and that is what counts
        display.say(f"{behind} ({first_line(error)})")


def _draw_results(record: SweepRecord, folder: Path, say: Callable[[str], None]) -> None:
    again = _command("sync", folder)
    with _guarded("front.png", again, say):
        plot_front(record, summarize(record), folder / "front.png")
    with _guarded("results.parquet", again, say):
        write_parquet(record, folder / "results.parquet")


def _write_page(record: SweepRecord, folder: Path, mirror: Mirror, say: Callable[[str], None]) -> None:
    """The report, and what its links to MLflow need."""
    with _guarded(RUNS_FILE, _command("sync", folder), say):
        runs = mirror.runs()
        if runs is not None:
            (folder / RUNS_FILE).write_text(json.dumps(runs), encoding="utf-8")
    with _guarded(REPORT_FILE, _command("report", folder), say):
        write_report(record, folder, folder / REPORT_FILE, mlflow_url=mirror.pages)


@contextmanager
def _guarded(file: str, again: str, say: Callable[[str], None]) -> Iterator[None]:
    """Each result is written by itself: what goes wrong with one is said, and the others are written all the same."""
    try:
        yield
    except Exception as error:
        say(f"{file} could not be written ({first_line(error)}); to make it again: {again}")


def _send_results(record: SweepRecord, folder: Path, mirror: Mirror, patience: float) -> None:
    """Puts the sweep's outcome on its MLflow run, or leaves it when that takes too long."""
    summary = summarize(record)
    numbers = {"sweep/front": float(len(summary.front))}
    if summary.hypervolume is not None:
        numbers["sweep/hypervolume"] = summary.hypervolume
    ranks = {trial.number: rank for rank, member in enumerate(summary.front, 1) for trial in member.trials}
    files = [folder / name for name in ("front.png", "results.parquet", REPORT_FILE)]
    limited(patience, lambda: mirror.log_results(record, numbers, ranks, note(record), files))


def note(record: SweepRecord) -> str:
    """The description of a sweep's run in MLflow, in Markdown: what was looked for, and what has come of it."""
    sentences = headline(record, summarize(record), correlations(record))
    outcome = "\n".join(f"- {for_markdown(sentence)}" for sentence in sentences)
    return f"{describe(record.header)}\n\n{outcome}"


def _sync_command(folder: Path, mirror: Mirror) -> str:
    """What brings MLflow up to date later, from the same folder and environment."""
    known = (default_uri(folder.parent), os.environ.get("MLFLOW_TRACKING_URI"))
    there = [] if mirror.uri in known or "@" in mirror.uri else ["--tracking-uri", mirror.uri]  # no passwords on screen
    return " ".join([_command("sync", folder), *map(shlex.quote, there)])


def _command(verb: str, folder: Path) -> str:
    """A command on a sweep, as it is to be typed in this folder."""
    here = [Path(place).absolute() for place in (os.environ.get("GAPTUNE_RESULTS"), "results") if place]
    where = [] if folder.parent.absolute() == here[0] else ["--results", str(folder.parent)]
    return shlex.join(["gaptune", verb, folder.name, *where])


def synchronize(folder: Path, results: Path, tracking_uri: str | None, say: Callable[[str], None] = print) -> int:
    """Makes MLflow say what a sweep's ledger says, also when the store is empty, or was left half written.

    Args:
        folder: The sweep's folder.
        results: Folder of all sweeps.
        tracking_uri: MLflow's; None for the SQLite store beside the sweeps.
        say: Called with a line for a person.

    Returns:
        How many trials are there.

    Raises:
        UserError: MLflow does not answer, or can never be written to as it is.
    """
    record = load(folder)
    if record.paused is None and not record.done and not in_use(folder):
        record.paused = "its driver was killed"  # and its runs do not go on by themselves
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
