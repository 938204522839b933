"""Checks in a separate process, which can be killed, whether a Ray cluster answers at an address."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress
from inspect import getsource
from typing import Any, NamedTuple

from gaptune.engine.autoscaler import autoscales
from gaptune.errors import UserError

_ANSWER_S = 15.0
"""How long a cluster may take to answer."""
_IMPORT_S = 120.0
"""How long the process that asks may take to import Ray, on a machine however busy."""

_ASK = f"""
{getsource(autoscales)}
import json, logging, os, socket, sys
out = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
os.environ["RAY_ENABLE_UV_RUN_RUNTIME_ENV"] = "0"

def say(**found):
    print(json.dumps(found), file=out, flush=True)

try:
    if sys.argv[1] != "auto":
        host, _, port = sys.argv[1].rpartition(":")
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    say()
    import ray
    say()
    ray.init(sys.argv[1], log_to_driver=False, logging_level=logging.CRITICAL)
    say(nodes=[node["Resources"] for node in ray.nodes() if node["Alive"]], autoscales=autoscales())
except BaseException as error:
    say(error=" ".join(str(error).split()) or type(error).__name__)
os._exit(0)
"""


class Found(NamedTuple):
    """A cluster that answers.

    Attributes:
        nodes: The resources of each of its machines.
        autoscales: Whether it starts further nodes by itself.
    """

    nodes: list[dict[str, float]]
    autoscales: bool


def check_address(address: str) -> Found:
    """Checks that a Ray cluster can be used from here. Starts nothing, and waits at most 15 seconds for an answer.

    Ray itself would wait minutes for some addresses and ignore signals, and would end this process for others.

    Args:
        address: ``HOST:PORT`` of a cluster, or ``auto`` on one of its machines.

    Returns:
        What answers there.

    Raises:
        UserError: The address has an invalid form, or no cluster with this version of Ray and Python answers.
    """
    refused = _refused(address)
    found: dict[str, Any] = {"error": refused} if refused else _ask(address)
    if "error" in found:
        raise UserError(f"no Ray cluster at {address}: {found['error']}")
    return Found(found["nodes"], found["autoscales"])


def _refused(address: str) -> str | None:
    """What is wrong with an address by its form alone; None if nothing is."""
    scheme, separator, _ = address.partition("://")
    if scheme == "ray" and separator:
        return "a sweep must run on a machine of the cluster: give HOST:PORT there, or use `ray job submit` from here"
    if separator:
        return "this is the address of a web page: give HOST:PORT of the cluster itself (6379 by default)"
    if address != "auto":
        host, colon, port = address.rpartition(":")
        if not (host and colon and port.isdigit() and 0 < int(port) < 2**16):
            return "expected HOST:PORT, or `auto` on a machine of the cluster"
    return None


def _ask(address: str) -> dict[str, Any]:
    # In its own process session, so that everything it starts can be killed; nobody needs what Ray's C++ prints.
    child = subprocess.Popen(
        [sys.executable, "-P", "-c", _ASK, address],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        assert child.stdout is not None
        lines = _Lines(child.stdout.fileno())
        found: dict[str, Any] = {}
        for limit in (_ANSWER_S, _IMPORT_S, _ANSWER_S):  # something listens, Ray is imported, a cluster has answered
            line = lines.next(limit)
            if not line:  # Ray's C++ code ends the process for some answers
                return {"error": f"no answer within {limit:g} s" if line is None else "something else listens there"}
            found = json.loads(line)
            if found:
                break
        return found
    finally:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.communicate()


class _Lines:
    """Reads lines from a pipe, each with a timeout."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._read = b""

    def next(self, seconds: float) -> str | None:
        """The next line; None if it does not come in time, an empty string if no more will come."""
        deadline = time.monotonic() + seconds
        while b"\n" not in self._read:
            ready, _, _ = select.select([self._fd], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                return None
            more = os.read(self._fd, 65536)
            if not more:
                return ""
            self._read += more
        line, _, self._read = self._read.partition(b"\n")
        return line.decode()
