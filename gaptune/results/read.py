"""A sweep to be read, under the name that a person gave."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from gaptune.ledger import SweepRecord, find_sweep, load


def read_sweep(results: Path, name: str) -> SweepRecord:
    """The state of a sweep in the results folder, or of a recorded one that comes with gaptune.

    It is called as it was asked for, whatever it was called where it ran: so tables and JSON can be matched to it.

    Raises:
        UserError: There is none of that name, or its ledger cannot be read.
    """
    record = load(find_sweep(results, name))
    return replace(record, header=replace(record.header, name=name))
