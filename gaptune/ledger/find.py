"""Finding and reading the ledgers of sweeps."""

from __future__ import annotations

import gc
import logging
from pathlib import Path

from gaptune.errors import UserError, did_you_mean
from gaptune.ledger.events import FILE_NAME, Damage, name_lines, read_events
from gaptune.ledger.file import LOCK, check_readable
from gaptune.ledger.state import SweepRecord, replay
from gaptune.storage import lock
from gaptune.storage.bundled import EXAMPLES, example

_log = logging.getLogger(__name__)


def load(folder: Path) -> SweepRecord:
    """The state of the sweep in a folder. Damaged lines are ignored, and named once in the log.

    Raises:
        UserError: There is no ledger, or its header cannot be read.
    """
    collecting = gc.isenabled()
    gc.disable()  # reading leaves no cyclic garbage, but a million values that the search for it would look through
    try:
        events, damages = read_events(folder)
        check_readable(events, damages, folder / FILE_NAME)
        record = replay(events)
    finally:
        if collecting:
            gc.enable()
    if not record.header:
        raise UserError(f"the ledger is empty: {folder / FILE_NAME}")
    if damages and not (all(damage.torn for damage in damages) and in_use(folder)):
        _log.warning("%s", describe_damages(folder, damages))
    return record


def describe_damages(folder: Path, damages: list[Damage]) -> str:
    """Which lines of a ledger are damaged, in one line."""
    plural = "lines are" if len(damages) > 1 else "line is"
    return (
        f"gaptune: {folder / FILE_NAME}: {len(damages)} {plural} damaged and ignored ({name_lines(damages)}); "
        "the sweep's own command repairs it"
    )


def sweep_folder(results: Path, name: str) -> Path:
    """The folder of a sweep that exists.

    Raises:
        UserError: There is no sweep of that name; with the nearest name.
    """
    known = [path.parent.name for path in results.glob(f"*/{FILE_NAME}")]
    if name not in known:
        raise UserError(f"no sweep {name!r} in {results}{did_you_mean(name, known)}")
    return results / name


def find_sweep(results: Path, name: str) -> Path:
    """The folder of a sweep in the results directory, or of an example sweep.

    Raises:
        UserError: There is none of that name; with the nearest name.
    """
    if name in EXAMPLES and not (results / name / FILE_NAME).exists():
        return example(name)
    return sweep_folder(results, name)


def in_use(folder: Path) -> bool:
    """Whether a driver has the ledger of the sweep in a folder open."""
    return lock.held(folder / LOCK)
