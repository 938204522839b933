"""The ledger: an append-only file of all that happened in a sweep, and the state that it adds up to.

The ledger is the truth. The Optuna study, MLflow and the results are made from it, and can be made again. It is a
text file of JSON lines, each closed by a checksum, so that a line torn by a crash or damaged on disk is noticed:

* ``sweep``: what was asked for (space, sweep's YAML, data, versions, command); the first line.
* ``session``: a driver began to work on it, with a copy of the first line. ``pause``: it stopped before the sweep was
  done.
* ``trial``: a candidate was drawn. ``start``: a worker took it up. ``report``: an epoch was evaluated.
* ``retry``: a fault that a retry may cure. ``end``: the trial's final state.
* ``scores``: an ended trial was evaluated on further data.
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
