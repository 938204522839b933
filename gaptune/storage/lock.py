"""Locks that also work on file systems shared by several machines.

A lock is a small file that names its holder and that the holder refreshes (``filelock.SoftFileLease``). The lock of a
process that was killed on this machine is released at once; that of a process on another machine once the file has not
been refreshed for ``LEASE_S`` seconds. ``fcntl`` locks are unreliable on shared file systems.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from filelock import SoftFileLease

LEASE_S = 60.0
_BEAT_S = 5.0


class HeldError(Exception):
    """Another process holds the lock; the message names the process and its machine."""


def acquire(path: Path, *, on_lost: Callable[[], None] = lambda: None) -> SoftFileLease:
    """Acquires a lock without waiting for a running holder.

    If the holder is on another machine, it takes up to ``LEASE_S`` seconds to find out whether it is still running.

    Args:
        path: Lock file, in an existing folder.
        on_lost: Function called from another thread when another process takes the lock, because this process was
            suspended for longer than ``LEASE_S`` seconds.

    Returns:
        The lock, which the caller must ``release``.

    Raises:
        HeldError: Another process holds the lock.
        OSError: The lock file cannot be written.
    """
    lease = _lease(path, on_lost)
    if _try(lease, 1.0):
        return lease
    owner = lease.owner
    if owner is None or owner.hostname == _own_host_name(path):
        raise HeldError(_describe(lease))
    seen, until = _stamp(path), time.monotonic() + 3 * _BEAT_S
    while time.monotonic() < until:
        if _try(lease, 1.0):
            return lease
        if _stamp(path) != seen:
            raise HeldError(_describe(lease))
    if _try(lease, LEASE_S):
        return lease
    raise HeldError(_describe(lease))


@contextmanager
def waiting_for(path: Path) -> Iterator[None]:
    """Waits for a lock and holds it.

    Args:
        path: Lock file, in an existing folder.
    """
    with _lease(path, lambda: None):
        yield


def held(path: Path) -> bool:
    """Whether a process holds the lock. If none does, acquires and releases it briefly."""
    if not path.exists():
        return False
    lease = _lease(path, lambda: None)
    owner = lease.owner
    if owner is None:
        return False
    if owner.hostname != _own_host_name(path):
        return time.time() - path.stat().st_mtime < LEASE_S
    if _try(lease, 0.0):
        lease.release()
        return False
    return True


def _lease(path: Path, on_lost: Callable[[], None]) -> SoftFileLease:
    from filelock import SoftFileLease

    return SoftFileLease(
        path,
        lease_duration=LEASE_S,
        heartbeat_interval=_BEAT_S,
        on_compromise=lambda _: on_lost(),
        thread_local=False,
    )


def _try(lease: SoftFileLease, seconds: float) -> bool:
    from filelock import Timeout

    try:
        lease.acquire(timeout=seconds, poll_interval=0.05)
    except Timeout:
        return False
    return True


def _own_host_name(path: Path) -> str:
    """This machine's name as written to lock files (containers have names of their own)."""
    probe = _lease(path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}"), lambda: None)
    try:
        with probe:
            owner = probe.owner
            return owner.hostname if owner else ""
    except OSError:
        return ""
    finally:
        Path(probe.lock_file).unlink(missing_ok=True)


def _stamp(path: Path) -> tuple[int, int]:
    try:
        state = path.stat()
    except OSError:
        return (0, 0)
    return state.st_ino, state.st_mtime_ns


def _describe(lease: SoftFileLease) -> str:
    owner = lease.owner
    return "another process" if owner is None else f"process {owner.pid} on {owner.hostname.partition('?')[0]}"
