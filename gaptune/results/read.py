"""Reading a sweep by its name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from gaptune.ledger import SweepRecord, find_sweep, load


def read_sweep(results: Path, name: str) -> SweepRecord:
    """The state of a sweep in the results directory, or of an example sweep, under the given name.

    Raises:
        UserError: There is none of that name, or its ledger cannot be read.
    """
    record = load(find_sweep(results, name))
    return replace(record, header=replace(record.header, name=name))
