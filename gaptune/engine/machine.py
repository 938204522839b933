"""What a process may use on this machine: cores, GPUs, and directories for Ray's files."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gaptune.errors import UserError

_CGROUPS = Path("/sys/fs/cgroup")
_OWN_CGROUPS = Path("/proc/self/cgroup")
_SHARED_MEMORY = Path("/dev/shm")
_DEVICES = Path("/dev")
_GPUS = ("nvidia*", "nvhost*", "nvgpu*", "dxg", "kfd")
"""Devices of NVIDIA's driver, also on Jetson and WSL, and of AMD's."""

_SOCKET_PATH = 107
"""Bytes that the kernel allows in the path of a socket."""
_SOCKET = len("/ray/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store")
"""Number of characters that Ray appends to its directory in the longest path of a socket."""

OBJECT_STORE = 128 * 2**20
"""Bytes of Ray's object store: trials exchange nothing, and their reports are small."""


def available_cores() -> int:
    """Number of cores that this process may use: by its affinity and its cgroup's quota, at least one."""
    affine = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    own = _OWN_CGROUPS.read_text(encoding="utf-8") if _OWN_CGROUPS.exists() else ""
    return max(1, int(min(affine, cgroup_quota(own, _CGROUPS) or affine)))


def cgroup_quota(own: str, root: Path) -> float | None:
    """Number of cores that control groups allow, by their quota of CPU time.

    Args:
        own: Content of ``/proc/self/cgroup``: the groups of the process.
        root: Directory where the groups are mounted.

    Returns:
        The smallest quota of the process's groups and their parents; None without a quota.
    """
    quotas = []
    for line in own.splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":  # version 2
            mounts = [root]
        elif "cpu" in controllers.split(","):
            mounts = [root / controllers, root / "cpu"]
        else:
            continue
        group = Path(path.lstrip("/"))
        quotas += [_quota(mount / above) for mount in mounts for above in (group, *group.parents)]
    return min((quota for quota in quotas if quota is not None), default=None)


def _quota(group: Path) -> float | None:
    try:
        if (group / "cpu.max").exists():
            allowed, period = (group / "cpu.max").read_text(encoding="utf-8").split()
        else:
            allowed = (group / "cpu.cfs_quota_us").read_text(encoding="utf-8")
            period = (group / "cpu.cfs_period_us").read_text(encoding="utf-8")
        return None if allowed == "max" or int(allowed) <= 0 else int(allowed) / int(period)
    except (OSError, ValueError):  # the group is not visible from here, or has an unknown format
        return None


def gpu_problem(*, sure: bool) -> str | None:
    """Why processes on this machine cannot use a GPU, in torch's words; None if they can.

    Args:
        sure: Whether to ask torch, which takes seconds to import, also if the machine clearly has no GPU.
    """
    if not sure and "CUDA_VISIBLE_DEVICES" not in os.environ and not any(map(any, map(_DEVICES.glob, _GPUS))):
        return "this machine has no GPU"
    from gaptune.trial.device import cuda_problem

    return cuda_problem()


def available_gpus() -> int:
    """Number of GPUs that processes on this machine can use, each MIG device that is listed as one.

    A process sees a single MIG device, however many are listed in ``CUDA_VISIBLE_DEVICES``; Ray gives each worker its
    own.
    """
    import torch

    listed = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    return sum(one.strip().startswith("MIG-") for one in listed) or torch.cuda.device_count()


@contextmanager
def ray_folders() -> Iterator[dict[str, str]]:
    """Directories for Ray's files, as arguments of ``ray.init``; empty if Ray's defaults work.

    Batch systems set a ``TMPDIR`` that is too long for sockets; containers have a ``/dev/shm`` that is too small.

    Raises:
        UserError: No directory for temporary files can be used.
    """
    chosen: dict[str, str] = {}
    wanted = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"
    own = None
    if not _fits_sockets(Path(wanted).absolute()):
        places = [Path(place) for place in ("/tmp", "/var/tmp", "/dev/shm", Path.home())]
        short = next((place for place in places if _fits_sockets(place)), None)
        if short is None:
            raise UserError(f"{wanted} cannot hold Ray's temporary files, nor can /tmp; set RAY_TMPDIR to a short path")
        own = chosen["_temp_dir"] = tempfile.mkdtemp(prefix="ray-", dir=short)
    if not (os.access(_SHARED_MEMORY, os.W_OK) and shutil.disk_usage(_SHARED_MEMORY).free >= OBJECT_STORE):
        chosen["_plasma_directory"] = own or wanted
    try:
        yield chosen
    finally:
        if own is not None:
            shutil.rmtree(own, ignore_errors=True)


def _fits_sockets(folder: Path) -> bool:
    """Whether Ray can create its sockets below a directory."""
    if len(os.fsencode(folder)) + _SOCKET > _SOCKET_PATH:
        return False
    try:
        with tempfile.NamedTemporaryFile(dir=folder):
            pass
    except OSError:
        return False
    rays = folder / "ray"
    return not rays.exists() or os.access(rays, os.W_OK | os.X_OK)
