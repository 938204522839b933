"""Says why trials wait for a worker although the sweep may run more of them."""

from __future__ import annotations

import time
from collections.abc import Callable

from gaptune.config import ResourcesConfig
from gaptune.engine.placement import describe
from gaptune.text.words import counted

_PATIENCE_S = 15.0
"""Seconds in which a worker starts; nobody needs to hear of a shorter wait."""


class Waiting:
    """Watches how many trials run and wait, and prints a line whenever a reason to wait begins, or ends.

    Args:
        resources: Resources of each trial.
        most: How many trials the sweep may run in parallel.
        autoscales: Whether the cluster starts further nodes by itself.
        say: Function that prints a line.
        clock: Clock in seconds.
    """

    def __init__(
        self,
        resources: ResourcesConfig,
        most: int,
        *,
        autoscales: bool,
        say: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._needs = describe(resources)
        self._most = most
        self._autoscales = autoscales
        self._say = say
        self._clock = clock
        self._changed = clock()
        self._running = -1
        self._said = False

    def look(self, running: int, waiting: int) -> None:
        """Takes how many workers run and how many trials wait for one."""
        waiting = min(waiting, self._most - running)  # one more may wait for the next worker that becomes free
        if waiting <= 0:
            if self._said:
                self._say(f"all trials have workers again: {running} in parallel")
            self._said, self._running, self._changed = False, running, self._clock()
            return
        if running != self._running:
            self._running, self._changed = running, self._clock()
        if not self._said and self._clock() - self._changed >= _PATIENCE_S:
            self._said = True
            wait = "waits" if waiting == 1 else "wait"
            self._say(f"{counted(waiting, 'trial')} {wait} and {running} run: {self._why()}")

    def _why(self) -> str:
        if self._autoscales:
            return f"the autoscaler has been asked for nodes with {self._needs} for each"
        return f"no node has {self._needs} free (see `ray status`)"
