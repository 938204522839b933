"""The cache folder, and locks so that one process at a time creates an entry."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gaptune.storage.lock import waiting_for


def cache_folder() -> Path:
    """The folder for files that gaptune can recreate: ``GAPTUNE_CACHE``, else ``~/.cache/gaptune``."""
    cache = os.environ.get("GAPTUNE_CACHE")
    return Path(cache) if cache else Path.home() / ".cache" / "gaptune"


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds the lock of a path in the cache: one process creates the entry while the others wait.

    Args:
        path: Cache entry to create; its parent folder is created.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with waiting_for(path.with_name(f"{path.name}.lease")):
        yield
