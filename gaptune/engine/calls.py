"""Calls of a function in processes of their own on the cluster, which can be ended at any moment."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Sequence
from typing import Any

import ray

_LOOK_S = 0.5
_MOST_LOSSES = 2
"""How often a call is repeated whose process was lost."""


def results_of(
    function: Callable[..., Any],
    calls: Sequence[tuple[Any, ...]],
    *,
    processes: int,
    cpus: float,
    gpus: float,
    look: Callable[[], None],
) -> Generator[tuple[int, Any], None, None]:
    """Calls a function with one set of arguments after the other.

    Yields the number of each call that ends with what it returned, or with a ``RayError`` that says why it has not.
    Close it to end all processes.

    The processes are actors. As tasks they would have to be ended by ``ray.cancel``, by which Ray 2.60 aborts the
    driver if a task starts at that moment ("Tried to complete task that was not pending").

    Args:
        function: What to call; it is imported where it runs.
        calls: The arguments of each call.
        processes: Largest number of processes in parallel.
        cpus: CPU cores of a process.
        gpus: GPUs of a process.
        look: Called while calls run. If it raises, all end.
    """
    kind = ray.remote(num_cpus=cpus, num_gpus=gpus)(_Process)
    waiting, losses = deque(range(len(calls))), [0] * len(calls)
    free: list[Any] = []
    running: dict[Any, tuple[int, Any]] = {}
    try:
        while waiting or running:
            while waiting and (free or len(running) < processes):
                number, process = waiting.popleft(), free.pop() if free else kind.remote()
                running[process.call.remote(function, *calls[number])] = number, process
            while free:  # another call may wait for what this process has
                ray.kill(free.pop())
            look()
            for done in ray.wait(list(running), timeout=_LOOK_S)[0]:
                number, process = running.pop(done)
                result = _result(done)
                if _is_lost(result):
                    ray.kill(process)
                    losses[number] += 1
                    if losses[number] <= _MOST_LOSSES:
                        waiting.appendleft(number)
                        continue
                else:
                    free.append(process)
                yield number, result
    finally:
        for process in [*free, *(process for _, process in running.values())]:
            ray.kill(process)


class _Process:
    """The actor."""

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return function(*arguments)


def _result(done: Any) -> Any:
    try:
        return ray.get(done)
    except ray.exceptions.RayError as error:
        return error


def _is_lost(result: Any) -> bool:
    """Whether a call has ended with its process, not by an error of its own."""
    return isinstance(result, ray.exceptions.RayError) and not isinstance(result, ray.exceptions.RayTaskError)
