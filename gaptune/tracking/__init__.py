"""The ledger in MLflow: a parent run for the sweep, a child run for each trial.

MLflow is written by one thread of the driver and is always behind the ledger, never in its way: a tracker that is slow
or down delays what the UI shows and nothing else. What is written is the difference between the ledger and what
MLflow has, with the ledger's own time stamps. So any request may fail: the next write looks at what is there and adds
what is missing, after an outage, a crash, a deletion, or into an empty store.
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
