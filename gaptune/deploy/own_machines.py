"""What ``provider: local`` needs: machines with different addresses, a login, and the first autoscaler."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from gaptune.deploy.file import ClusterFile
from gaptune.errors import UserError

_V2 = "RAY_UP_enable_autoscaler_v2"


def own_machine_problems(file: ClusterFile) -> Iterator[UserError]:
    """What is missing in a file with own machines."""
    if file.provider != "local":
        return
    if file.mapping("available_node_types"):
        what = "own machines have no types of nodes; remove available_node_types and head_node_type"
        yield file.problem(what, "available_node_types")
    if os.environ.get(_V2, "1") != "0":
        yield file.problem(f"Ray's autoscaler v2 never starts own machines; run: export {_V2}=0", "provider")
    if not file.text("auth", "ssh_user"):
        yield file.problem("no ssh_user; write the user who logs in on the machines", "auth")
    if not file.text("auth", "ssh_private_key") and not any(Path.home().glob(".ssh/id_*")):
        yield file.problem("no ssh_private_key, and none in ~/.ssh; write the path of a key", "auth")
    if file.get("provider", "coordinator_address") is None:
        yield from _address_problems(file)


def _address_problems(file: ClusterFile) -> Iterator[UserError]:
    head, workers = file.text("provider", "head_ip"), file.items("provider", "worker_ips")
    if not head:
        yield file.problem("no head_ip; write the address of the machine that drives the sweep", "provider")
    if not workers:
        yield file.problem("no worker_ips; write the addresses of the other machines", "provider")
    if file.get("max_workers") == 0:
        yield file.problem(f"0: no worker ever starts; write {len(workers)}", "max_workers")
    seen: dict[str, str] = {}
    for loc, value in [(("head_ip",), head), *((("worker_ips", n), one) for n, one in enumerate(workers))]:
        address = str(value)
        if _is_loopback(address):
            what = f"{address} is this machine for each machine; write an address that all machines reach"
            yield file.problem(what, "provider", *loc)
        elif address in seen:
            what = f"{address} is {seen[address]}, too: two nodes on one machine end each other; remove one"
            yield file.problem(what, "provider", *loc)
        elif address:
            seen[address] = ".".join(map(str, loc))


def _is_loopback(address: str) -> bool:
    with suppress(ValueError):
        found = ipaddress.ip_address(address)
        return found.is_loopback or found.is_unspecified
    return address == "localhost" or address.startswith("localhost.")
