"""The nodes of a Ray cluster: which one a worker is on, their names, and whether one is lost."""

from __future__ import annotations

import socket
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

_CONNECT_S = 1.0
"""Seconds in which a node that is alive accepts a connection."""


def node_of(worker: Any) -> str | None:
    """The id of the node on which a worker (an actor of Ray) runs; None if Ray does not know it."""
    from ray._private import state

    found = state.actors(worker._actor_id.hex())
    return (found.get("Address") or {}).get("NodeID") or None


class Nodes:
    """Names of the nodes of the cluster that this process has joined."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}

    def name(self, node: str | None) -> str:
        """The name of a node: the one that Ray was started with, or its host name.

        Args:
            node: Id of the node; None for one that Ray does not know.
        """
        if node is not None and node not in self._names:
            import ray

            self._names = names_of(ray.nodes())
        return self._names.get(node or "", "unknown")


def names_of(nodes: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The name of each node by its id. Nodes of the same name also show the end of their id.

    Args:
        nodes: The nodes as Ray tells them, also those that are lost.
    """
    names = {}
    for node in nodes:
        given, address = node["NodeName"], node["NodeManagerAddress"]
        names[node["NodeID"]] = given if given != address else node["NodeManagerHostname"] or address
    how_often = Counter(names.values())
    return {node: name if how_often[name] == 1 else f"{name}#{node[-6:]}" for node, name in names.items()}


def is_lost(node: str, patience: float = 0.0) -> bool:
    """Whether a node is lost. Ray itself may take half a minute to notice that, so the node is asked, too.

    Args:
        node: Id of the node.
        patience: Seconds to wait for its end: a machine that shuts down may end its workers first.
    """
    import ray

    deadline = time.monotonic() + patience
    while True:
        known = next((each for each in ray.nodes() if each["NodeID"] == node), None)
        if known is None or not known["Alive"] or not _answers(known["NodeManagerAddress"], known["NodeManagerPort"]):
            return True
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.1)


def _answers(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=_CONNECT_S).close()
    except OSError:
        return False
    return True
