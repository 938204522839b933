"""Detects stuck trials: workers write their progress, and the driver notices when it stays the same."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from contextlib import suppress

_WRITE_S = 1.0
"""Seconds between two writes of a worker, and between two looks of the driver."""
_LONGEST_LOOK_S = 10.0
"""How much of the time between two looks counts at most."""
_READ_S = 0.05
"""Seconds after which a look ends; the next one continues there. Reading takes a millisecond for each worker."""

Clock = Callable[[], float]


def _key(place: str) -> bytes:
    return f"gaptune/progress/{place}".encode()


class Beat:
    """Counts a worker's steps, and writes the count and the epochs to the cluster's key-value store.

    Args:
        place: Key of this trial, unique among all sweeps on the cluster.
    """

    def __init__(self, place: str) -> None:
        from ray.experimental import internal_kv

        self._put = internal_kv._internal_kv_put
        self._key = _key(place)
        self._count = 0
        self._epochs = 0.0
        self._written = 0.0

    def __call__(self, epochs: float | None = None, /) -> None:
        """Counts a step; writes what there is at most once a second.

        Args:
            epochs: Epochs trained so far, with the part of the one that has begun; None outside of training.
        """
        self._count += 1
        self._epochs = self._epochs if epochs is None else epochs
        now = time.monotonic()
        if now - self._written >= _WRITE_S:
            self._written = now
            with suppress(Exception):  # a lost write does no harm
                self._put(self._key, f"{self._count} {self._epochs:.3f}".encode(), overwrite=True)


def read_beat(place: str) -> bytes | None:
    """The last progress that a trial's worker has written."""
    from ray.experimental import internal_kv

    written: bytes | None = internal_kv._internal_kv_get(_key(place))
    return written


def epochs_of(written: bytes | None) -> float | None:
    """The epochs in what a worker has written; None if it has written nothing."""
    return None if written is None else float(written.split()[1])


def forget_beats(places: str) -> None:
    """Removes the progress of workers.

    Args:
        places: Prefix of their keys.
    """
    from ray.experimental import internal_kv

    internal_kv._internal_kv_del(_key(places), del_by_prefix=True)


class Watch:
    """Finds trials without progress.

    Time in which the driver did not look does not count: the driver itself may have been stopped. Many trials are read
    in turn, some at each look, because nothing else happens in the driver meanwhile.

    Args:
        limit: Seconds without progress; None to find no trial, and only read.
        read: Function that reads the last progress of a key.
        clock: Clock in seconds.
    """

    def __init__(
        self, limit: float | None, read: Callable[[str], bytes | None] = read_beat, clock: Clock = time.monotonic
    ) -> None:
        self._limit = math.inf if limit is None else limit
        self._read = read
        self._clock = clock
        self._looked = clock()
        self._counted = 0.0  # seconds in which the driver looked
        self._still: dict[str, tuple[bytes | None, float]] = {}  # progress and since when; read longest ago is first

    def stuck(self, running: Iterable[str]) -> list[str]:
        """The keys without progress for the limit; each is returned once, and then watched anew."""
        passed = self._clock() - self._looked
        if passed < min(_WRITE_S, self._limit / 4):
            return []
        self._looked += passed
        self._counted += min(passed, _LONGEST_LOOK_S)
        running = dict.fromkeys(running)
        self._still = {one: still for one, still in self._still.items() if one in running}
        for one in running:
            self._still.setdefault(one, (None, self._counted))
        found, began = [], self._clock()
        for one in list(self._still):
            written, (last, since) = self._read(one), self._still.pop(one)
            since = since if written == last else self._counted
            if self._counted - since >= self._limit:
                found.append(one)
            else:
                self._still[one] = written, since
            if self._clock() - began >= _READ_S:
                break
        return found

    def written(self, key: str) -> bytes | None:
        """The progress of a key when it was last read; None if it has never been."""
        return self._still.get(key, (None, 0.0))[0]
