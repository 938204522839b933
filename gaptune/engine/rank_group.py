"""The ranks of a trial: processes on one or several machines, as actors in the trial's placement group.

Ray Tune starts a trial when its whole group of workers has its resources. The trial's own actor, ``Worker``, needs none
of them: it starts the ranks, waits for all of them, and ends all of them as soon as one has failed, because the others
would wait for it forever. Ranks are kept for the next trial, as workers are.
"""

from __future__ import annotations

import math
import socket
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import ray
from ray import tune
from ray.util import get_current_placement_group, get_node_ip_address
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from gaptune.config import ResourcesConfig
from gaptune.engine.messages import WorkerMessage, WorkerTask
from gaptune.engine.trainer import Trainer

_OTHERS_S = 2.0
"""Seconds in which the other ranks may end by themselves, when one has failed."""
_CAUSE_S = 30.0
"""Seconds in which the cause must show, when a rank has only noticed that another one is lost."""
_CLEAR_S = 10.0


class RankFailed(Exception):  # noqa: N818  (what has happened, not that it is an error, matters)
    """A rank has failed in a way that a retry may cure; the first line names it, the others are Ray's."""


def placement_of(resources: ResourcesConfig) -> tune.PlacementGroupFactory | dict[str, float]:
    """What Ray Tune reserves for a trial: all or nothing.

    The head of a group is empty: the actor that Tune starts only waits. ``PACK`` takes as few machines as possible,
    because the ranks exchange features and gradients in every step, but several where one is too small.
    """
    worker = {"CPU": float(resources.cpu), "GPU": resources.gpus}
    if resources.ranks == 1:
        return {"cpu": resources.cpu, "gpu": resources.gpus}
    return tune.PlacementGroupFactory([{}, *[worker] * resources.workers], strategy="PACK")


class Rank(Trainer):
    """A ``Trainer`` in an actor."""

    def node(self) -> str:
        """Id of the node of this process."""
        node: str = ray.get_runtime_context().get_node_id()
        return node

    def address(self) -> str:
        """``HOST:PORT`` where this process can listen, as other nodes reach it."""
        with socket.socket() as probe:
            probe.bind(("", 0))
            return f"{get_node_ip_address()}:{probe.getsockname()[1]}"


class RankGroup:
    """Trains a trial by several ranks; has the methods of ``Trainer``.

    Ranks belong to the process that calls them: Ray ends them with it.
    """

    def __init__(self) -> None:
        self._ranks: list[Any] = []
        self._nodes: list[str] = []

    def start(self, task: WorkerTask) -> WorkerMessage:
        """Starts the processes, unless they are kept, and the training.

        Args:
            task: The trial.

        Raises:
            RankFailed: A rank has failed.
        """
        if not self._ranks:
            self._ranks = _actors(task)
            self._nodes = ray.get([rank.node.remote() for rank in self._ranks])
        message = self._all([rank.start.remote(task, number) for number, rank in enumerate(self._ranks)])
        if message.ends:
            return message
        address = self._ranks[0].address.remote()
        return self._all([rank.join.remote(address) for rank in self._ranks])

    def step(self) -> WorkerMessage:
        """Trains until the next report.

        Raises:
            RankFailed: A rank has failed.
        """
        return self._all([rank.step.remote() for rank in self._ranks])

    def clear(self) -> None:
        """Leaves nothing of the trial; ends the ranks if they do not answer."""
        calls = [rank.clear.remote() for rank in self._ranks]
        try:
            ray.get(calls, timeout=_CLEAR_S)
        except ray.exceptions.RayError:
            self.end()

    def end(self) -> None:
        """Ends the processes."""
        for rank in self._ranks:
            ray.kill(rank)
        self._ranks = []

    def _all(self, calls: Sequence[Any]) -> WorkerMessage:
        """What rank 0 answers once all have; or why one has failed, whereupon none that waits for others is left."""
        first, failed = WorkerMessage(), dict[int, WorkerMessage | Exception]()
        waiting = {call: number for number, call in enumerate(calls)}
        while waiting:
            patience = None
            if failed:
                patience = _CAUSE_S if all(map(_is_consequence, failed.values())) else _OTHERS_S
            ended, _ = ray.wait([*waiting], timeout=patience)
            if not ended:
                break
            for call in ended:
                number, answer = waiting.pop(call), _answer(call)
                if isinstance(answer, Exception) or answer.ends:
                    failed[number] = answer
                elif number == 0:
                    first = answer
        if not failed:
            return first
        if waiting or any(isinstance(each, Exception) for each in failed.values()):
            self.end()
        return self._failure(failed)

    def _failure(self, failed: dict[int, WorkerMessage | Exception]) -> WorkerMessage:
        """The cause among what has failed: what is known by name, else an end or exception, else its consequence."""
        number, cause = min(failed.items(), key=lambda each: (_is_consequence(each[1]), isinstance(each[1], Exception)))
        size = len(self._nodes)
        if isinstance(cause, Exception):
            raise RankFailed(f"rank {number} of {size} on node {self._nodes[number]}\n{cause}") from None
        if len(failed) == size or cause.failure is None:
            return cause
        return replace(cause, failure=f"{cause.failure} (rank {number} of {size})")


def _actors(task: WorkerTask) -> list[Any]:
    """One actor for each rank, in the bundles of this actor's placement group; Ray starts them now."""
    each, group = task.ranks_per_worker, get_current_placement_group()
    actor = ray.remote(num_cpus=math.floor(10_000 * task.cpu / each) / 10_000, num_gpus=min(1.0, task.gpu))(Rank)
    return [
        actor.options(
            scheduling_strategy=PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=number // each)
        ).remote()
        for number in range(task.ranks)
    ]


def _answer(call: Any) -> WorkerMessage | Exception:
    try:
        answer: WorkerMessage = ray.get(call)
        return answer
    except ray.exceptions.RayError as error:
        failure: Exception = error
        return failure


def _is_consequence(answer: WorkerMessage | Exception) -> bool:
    """Whether a rank has failed only because another one has."""
    return type(getattr(answer, "cause", None)).__name__ == "RankLost"  # of torch, which this process need not import
