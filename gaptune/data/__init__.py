"""Pairs of images and captions as memory-mapped stores."""

from __future__ import annotations

from pathlib import Path

from gaptune.data.scenes import open_scenes
from gaptune.data.store import Split, Store, StoreMeta, StoreWriter, read_store

__all__ = ["Split", "Store", "StoreMeta", "StoreWriter", "open_store"]


def open_store(reference: str | Path) -> Store:
    """Opens a data store.

    Args:
        reference: ``scenes`` for the embedded procedural data, which is made on first use; else the folder of
            a store.

    Raises:
        UserError: It is missing, unfinished, damaged or empty.
    """
    return open_scenes() if str(reference) == "scenes" else read_store(Path(reference))
