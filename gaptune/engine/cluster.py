"""Ray itself: started on this machine or joined elsewhere, and what fits on it."""

from __future__ import annotations

import logging
import math
import os
import socket
from pathlib import Path
from typing import Any

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import ray
import yaml

from gaptune.config import Resources
from gaptune.errors import UserError


def start_ray(resources: Resources, address: str | None) -> None:
    """Connects to a Ray cluster, or starts Ray on this machine for as many trials as should run side by side.

    Args:
        resources: What each trial gets.
        address: Of a running cluster; None for this machine.

    Raises:
        UserError: No cluster answers there, or a trial needs what no machine of it has or will have.
    """
    logging.getLogger("ray").setLevel(logging.ERROR)
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if not ray.is_initialized():
        if address is not None:
            try:
                _check_listens(address)
                ray.init(address=address, **quiet)
            except (OSError, ValueError, RuntimeError) as fault:
                raise UserError(f"no Ray cluster at {address}: {str(fault).splitlines()[0]}") from None
        else:
            cores = os.cpu_count() or 1
            wanted = (resources.concurrency or max(1, cores // resources.cpu)) * resources.cpu
            # Said outright, for without an address Ray joins any cluster that somebody has started on this machine.
            ray.init("local", num_cpus=wanted, include_dashboard=False, **quiet)
    _check_placement(resources, address)


def side_by_side(resources: Resources) -> int:
    """How many trials Ray can run at once with what it has now, at most as many as the sweep allows."""
    have = ray.cluster_resources()
    fitting = int(have.get("CPU", 0.0) // resources.cpu)
    if resources.gpu:
        fitting = min(fitting, int(have.get("GPU", 0.0) / resources.gpu))
    return max(1, min(fitting, resources.concurrency or fitting))


def _check_listens(address: str) -> None:
    """Raises OSError where nobody listens: there Ray would end this process instead of raising something."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon and port.isdigit():
        socket.create_connection((host, int(port)), timeout=10).close()


def _check_placement(resources: Resources, address: str | None) -> None:
    """Refuses trials that no machine can ever take: Ray would wait for one for ever.

    On Kubernetes nobody can tell here what the operator may still start, so nothing is refused.
    """
    if address is not None and "KUBERNETES_SERVICE_HOST" in os.environ:
        return
    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if any(_fits(resources, machine) for machine in (*machines, *_kinds_to_come())):
        return
    needs = f"{resources.cpu} CPU" + (f" and {resources.gpu:g} GPU" if resources.gpu else "")
    largest = [max((machine.get(kind, 0.0) for machine in machines), default=0.0) for kind in ("CPU", "GPU")]
    where = "this machine" if address is None else f"a machine of the cluster at {address}"
    raise UserError(
        f"each trial needs {needs} on one machine; {where} has at most {largest[0]:g} CPU and {largest[1]:g} GPU, "
        "and no larger one is to come; see resources.cpu and resources.gpu"
    )


def _fits(resources: Resources, machine: dict[str, float]) -> bool:
    return machine.get("CPU", 0.0) >= resources.cpu and machine.get("GPU", 0.0) >= resources.gpu


def _kinds_to_come() -> list[dict[str, float]]:
    """The machines that an autoscaler may still start, as ``ray up`` leaves them on the head."""
    config = Path.home() / "ray_bootstrap_config.yaml"
    if not config.exists():
        return []
    kinds = yaml.safe_load(config.read_text(encoding="utf-8")).get("available_node_types", {}).values()
    return [kind.get("resources") or {"CPU": math.inf, "GPU": math.inf} for kind in kinds if kind.get("max_workers", 1)]
