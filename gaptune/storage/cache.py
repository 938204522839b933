"""What gaptune can make again is kept in one folder, and made by one process at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gaptune.storage.lock import waiting_for


def cache_folder() -> Path:
    """Where gaptune keeps what it can make again: ``GAPTUNE_CACHE``, else ``~/.cache/gaptune``."""
    cache = os.environ.get("GAPTUNE_CACHE")
    return Path(cache) if cache else Path.home() / ".cache" / "gaptune"


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds the lock of a path in the cache, so that of several processes one makes it and the others wait.

    Args:
        path: What is about to be made; its folder is made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with waiting_for(path.with_name(f"{path.name}.lease")):
        yield
