"""Keeps the memory that a training frees for its next step."""

from __future__ import annotations

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
_KEPT = 2**30
_MOST_OF_OLD_GLIBC = 2**25


def keep_freed_memory() -> bool:
    """Has the C library keep freed memory in this process, for a process whose work is trainings on a CPU.

    By default glibc gives large blocks back to the system when they are freed. Each step then gets new pages, and
    their first touch, which the system answers by clearing them, takes a tenth of a step's time.

    Returns:
        Whether it could be set: there are other C libraries.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    large = mallopt(_M_MMAP_THRESHOLD, _KEPT) or mallopt(_M_MMAP_THRESHOLD, _MOST_OF_OLD_GLIBC)
    return bool(large and mallopt(_M_TRIM_THRESHOLD, _KEPT))
