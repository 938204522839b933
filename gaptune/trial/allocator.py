"""Keeps the memory that a training frees for its next step."""

from __future__ import annotations

import ctypes
import mmap
from functools import cache

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
_KEPT = 2**30
_MOST_OF_OLD_GLIBC = 2**25


@cache
def keep_freed_memory() -> bool:
    """Has the C library keep freed memory in this process, for a process whose work is trainings on a CPU.

    By default glibc gives large blocks back to the system when they are freed. Each step then gets new pages, and
    their first touch, which the system answers by clearing them, takes a tenth of a step's time.

    Returns:
        Whether it could be set: there are other C libraries.
    """
    try:
        libc = ctypes.CDLL(None)
        mallopt = libc.mallopt
    except (OSError, AttributeError):
        return False
    large = mallopt(_M_MMAP_THRESHOLD, _KEPT) or mallopt(_M_MMAP_THRESHOLD, _MOST_OF_OLD_GLIBC)
    kept = bool(large and mallopt(_M_TRIM_THRESHOLD, _KEPT))
    if kept:
        _use_huge_pages(libc)
    return kept


def _use_huge_pages(libc: ctypes.CDLL) -> None:
    """Asks for huge pages where the heap will grow: a step touches more memory than a CPU finds small pages of quickly.

    A large block is taken from the heap and returned untouched, so that it takes no memory by itself.
    """
    huge = getattr(mmap, "MADV_HUGEPAGE", None)  # Linux
    size = _KEPT - 2**24  # below both thresholds, with what is free already: the heap must keep it
    libc.malloc.restype = ctypes.c_void_p
    block = libc.malloc(ctypes.c_size_t(size)) if huge is not None else None
    if block is None:
        return
    first = -(-block // mmap.PAGESIZE) * mmap.PAGESIZE
    libc.madvise(ctypes.c_void_p(first), ctypes.c_size_t(size - mmap.PAGESIZE), huge)
    libc.free(ctypes.c_void_p(block))
