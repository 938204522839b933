"""The ledger in MLflow: a parent run for the sweep, a child run for each trial.

One thread of the driver writes to MLflow, after the ledger: a tracking server that is slow or down delays the UI and
nothing else. Each write is the difference between the ledger and what MLflow has, with the ledger's own time stamps. So
any request may fail: the next write adds what is missing after an outage, a crash or a deletion, or in an empty store.
"""

from gaptune.tracking.failures import UnreachableError, UnusableError, first_line
from gaptune.tracking.mirror import Mirror
from gaptune.tracking.store import StoreState, check_store, default_uri, limited, resolve_uri
from gaptune.tracking.tracker import PATIENCE_S, Tracker
from gaptune.tracking.translate import describe

__all__ = [
    "PATIENCE_S",
    "Mirror",
    "StoreState",
    "Tracker",
    "UnreachableError",
    "UnusableError",
    "check_store",
    "default_uri",
    "describe",
    "first_line",
    "limited",
    "resolve_uri",
]
