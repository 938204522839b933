"""Tells a running worker which of its trials need not continue, through the cluster's key-value store.

There is no race. Ray calls a worker's next step only after the scheduler has answered its last message, and within this
answer the driver writes the numbers, which the worker reads first thing in its next step. A write or read that fails
costs time only: the worker trains on, the driver ignores what it reports of a trial that has ended, and writes again.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from contextlib import suppress


def _key(place: str) -> bytes:
    return f"gaptune/over/{place}".encode()


def tell_over(place: str, numbers: Collection[int]) -> None:
    """Writes which trials of a worker are over.

    Args:
        place: Prefix of the worker's keys.
        numbers: Numbers of the trials.
    """
    from ray.experimental import internal_kv

    with suppress(Exception):
        internal_kv._internal_kv_put(_key(place), json.dumps(sorted(numbers)).encode(), overwrite=True)


def read_over(place: str) -> set[int]:
    """The trials of a worker that are over, as far as the driver has written it."""
    from ray.experimental import internal_kv

    with suppress(Exception):
        return set(json.loads(internal_kv._internal_kv_get(_key(place)) or b"[]"))
    return set()


def forget_over(places: str) -> None:
    """Removes what was written.

    Args:
        places: Prefix of the workers' keys.
    """
    from ray.experimental import internal_kv

    internal_kv._internal_kv_del(_key(places), del_by_prefix=True)
