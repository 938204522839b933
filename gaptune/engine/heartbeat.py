"""Whether a trial moves: its worker writes how far it is, and the driver notices when that stays the same."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import suppress

_WRITE_S = 1.0
"""How often a worker writes, and the driver looks."""
_LONGEST_LOOK_S = 10.0
"""What counts at most of the time between two looks."""

Clock = Callable[[], float]


def _key(place: str) -> bytes:
    return f"gaptune/progress/{place}".encode()


class Beat:
    """Counts a worker's steps, and writes the count where the driver sees it on whatever node they are.

    Args:
        place: What tells this trial from others of all sweeps on the cluster.
    """

    def __init__(self, place: str) -> None:
        from ray.experimental import internal_kv

        self._put = internal_kv._internal_kv_put
        self._key = _key(place)
        self._count = 0
        self._written = 0.0

    def __call__(self) -> None:
        """One step further; written once a second at most."""
        self._count += 1
        now = time.monotonic()
        if now - self._written >= _WRITE_S:
            self._written = now
            with suppress(Exception):  # one that is lost does no harm
                self._put(self._key, str(self._count).encode(), overwrite=True)


def read_beat(place: str) -> bytes | None:
    """What a trial's worker has written last."""
    from ray.experimental import internal_kv

    written: bytes | None = internal_kv._internal_kv_get(_key(place))
    return written


def forget_beats(places: str) -> None:
    """Removes what workers have written.

    Args:
        places: How the names of their places begin.
    """
    from ray.experimental import internal_kv

    internal_kv._internal_kv_del(_key(places), del_by_prefix=True)


class Watch:
    """Notices who has not moved for long.

    Time in which nobody looked does not count: the driver itself may have been stopped.

    Args:
        limit: Seconds without a move; None to watch nobody.
        read: What somebody has written last.
        clock: Seconds.
    """

    def __init__(
        self, limit: float | None, read: Callable[[str], bytes | None] = read_beat, clock: Clock = time.monotonic
    ) -> None:
        self._limit = limit
        self._read = read
        self._clock = clock
        self._looked = clock()
        self._still: dict[str, tuple[bytes | None, float]] = {}

    def stuck(self, running: Iterable[str]) -> list[str]:
        """Those of the running that have not moved for the limit; each is named once, and then watched anew."""
        if self._limit is None:
            return []
        passed = self._clock() - self._looked
        if passed < min(_WRITE_S, self._limit / 4):
            return []
        self._looked += passed
        before, self._still = self._still, {}
        found = []
        for one in running:
            written = self._read(one)
            last, seconds = before.get(one, (None, 0.0))
            seconds = seconds + min(passed, _LONGEST_LOOK_S) if one in before and written == last else 0.0
            if seconds >= self._limit:
                found.append(one)
            else:
                self._still[one] = written, seconds
        return found
