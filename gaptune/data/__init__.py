"""Pairs of images and captions as memory-mapped stores."""

from __future__ import annotations

from pathlib import Path

from gaptune.data.fetch import fetch_store
from gaptune.data.scenes import open_scenes
from gaptune.data.store import Split, Store, StoreMeta, StoreWriter, read_store
from gaptune.remote import is_url

__all__ = ["Split", "Store", "StoreMeta", "StoreWriter", "open_store"]


def open_store(reference: str | Path) -> Store:
    """Opens a data store.

    Args:
        reference: ``scenes`` for the embedded procedural data, which is made on first use; the folder of a store;
            or its URL, from which it is copied to this machine once.

    Raises:
        UserError: It is missing, unfinished, damaged or empty.
    """
    if str(reference) == "scenes":
        return open_scenes()
    return fetch_store(str(reference)) if is_url(str(reference)) else read_store(Path(reference))
