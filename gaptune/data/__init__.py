"""Pairs of images and captions as memory-mapped stores."""

from __future__ import annotations

from pathlib import Path

from gaptune.config import Data
from gaptune.data.fetch import fetch_store
from gaptune.data.mix import Mixture
from gaptune.data.scenes import open_scenes
from gaptune.data.store import Split, Store, StoreMeta, StoreWriter, read_store
from gaptune.remote import is_url

__all__ = ["Split", "Store", "StoreMeta", "StoreWriter", "check_reference", "open_store", "open_training"]

IMAGE_SIZE, CONTEXT_LENGTH = 224, 77
"""Of stores that are built on first use, unless others are asked for."""


def open_store(reference: str | Path, *, image_size: int | None = None, context_length: int | None = None) -> Store:
    """Opens a data store.

    Args:
        reference: ``scenes`` for the embedded procedural data, which is made on first use; the folder of a store; its
            URL, from which it is copied to this machine once; or a data set by its kind and place, such as
            ``imagefolder:PATH`` (see ``gaptune.data.sources``), which is built into the cache once.
        image_size: Side of the images of a data set that is built here, 224 by default. A store has its own.
        context_length: Token ids per caption of a data set that is built here, 77 by default. A store has its own.

    Raises:
        UserError: It is missing, unfinished, damaged or empty.
    """
    named = str(reference)
    if named == "scenes":
        return open_scenes()
    if is_url(named):
        return fetch_store(named)
    if _is_source(named):
        from gaptune.data.cached import open_built  # pillow, and a builder that most processes never need

        return open_built(named, image_size or IMAGE_SIZE, context_length or CONTEXT_LENGTH)
    return read_store(Path(reference))


def check_reference(reference: str) -> None:
    """Checks that a data store or a data set is there, without building anything of it.

    Raises:
        UserError: It is missing or damaged.
    """
    if _is_source(reference) and not is_url(reference):
        from gaptune.data.sources import find_source

        find_source(reference)
    else:
        open_store(reference)


def _is_source(named: str) -> bool:
    return ":" in named and not Path(named).exists()


def open_training(data: Data) -> Store:
    """Opens what a trial is trained on: a store, or several mixed by weight.

    Raises:
        UserError: One of them cannot be opened, there is no ``train`` or no ``val``, or they do not fit each other.
    """
    store = open_store(data.store)
    if data.mix:
        store = Mixture(store, {name: open_store(name) for name in data.mix}, data.mix)
    store.check_trainable()
    return store
