"""A data store opened by its reference: a folder, a URL, the embedded scenes, or a data set by kind and place."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gaptune.config import DataConfig
from gaptune.data.scenes import open_scenes
from gaptune.data.store.download import fetch_store
from gaptune.data.store.mixture import Mixture
from gaptune.data.store.reader import Store, read_store
from gaptune.storage.folder import is_url

if TYPE_CHECKING:
    from gaptune.data.sources import Source


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


def look_up(reference: str, *, image_size: int, context_length: int) -> Store | Source:
    """An existing data store, or else the data set that one would be built from.

    Args:
        reference: As for ``open_store``.
        image_size: Side of the images that a store would be built with.
        context_length: Token ids per caption that it would be built with.

    Raises:
        UserError: It is missing or damaged.
    """
    if is_url(reference) or not _is_source(reference):
        return open_store(reference)
    from gaptune.data.cached import find_built
    from gaptune.data.sources import find_source

    source = find_source(reference)
    return find_built(source, image_size, context_length) or source


def _is_source(named: str) -> bool:
    return ":" in named and not Path(named).exists()


def open_training(data: DataConfig) -> Store:
    """Opens what a trial is trained on: a store, or several mixed by weight.

    Raises:
        UserError: One of them cannot be opened, there is no ``train`` or no ``val``, or they do not fit each other.
    """
    store = open_store(data.store)
    if data.mix:
        store = Mixture(store, {name: open_store(name) for name in data.mix}, data.mix)
    store.check_trainable()
    return store
