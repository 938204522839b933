"""The ledger: an append-only event log of a sweep, and the state that its events add up to.

The ledger is the record of a sweep. The Optuna study, MLflow and the results are derived from it. It is a text file of
JSON lines, each with a checksum, so that a line cut short by a crash or damaged on disk is noticed:

* ``sweep``: the header (space, sweep config, data, versions, command); the first line.
* ``session``: a driver started, with a copy of the first line. ``pause``: it stopped before the sweep was done.
* ``trial``: a trial was drawn. ``start``: a worker began it. ``report``: it was evaluated.
* ``retry``: a failure after which the trial is retried. ``end``: the trial's final state.
* ``metrics``: an ended trial was evaluated on further data.
* ``done``: every trial of the sweep has ended.
"""

from gaptune.ledger.events import FILE_NAME, SCHEMA, Damage, Event, encode, parse_events, read_events
from gaptune.ledger.file import Ledger, LostError
from gaptune.ledger.find import find_sweep, in_use, load, sweep_folder
from gaptune.ledger.header import Constraint, SweepHeader
from gaptune.ledger.state import ReportRecord, State, SweepRecord, TrialRecord, known_trials, replay

__all__ = [
    "FILE_NAME",
    "SCHEMA",
    "Constraint",
    "Damage",
    "Event",
    "Ledger",
    "LostError",
    "ReportRecord",
    "State",
    "SweepHeader",
    "SweepRecord",
    "TrialRecord",
    "encode",
    "find_sweep",
    "in_use",
    "known_trials",
    "load",
    "parse_events",
    "read_events",
    "replay",
    "sweep_folder",
]
