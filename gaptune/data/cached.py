"""Data sets by a name such as ``imagefolder:PATH``: built into the cache once, and memory-mapped after."""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path

from gaptune.data.build import VERSION, build
from gaptune.data.images import found
from gaptune.data.sources import Source, find_source
from gaptune.data.store.meta import META
from gaptune.data.store.reader import Store, read_store
from gaptune.storage.cache import BUILT, cache_folder, locked, use

_log = logging.getLogger(__name__)


def open_built(reference: str, image_size: int, context_length: int) -> Store:
    """The store of a named data set, built on first use.

    It is known by its name, size and context, and by the size and time of each of its files: where one changes, it is
    built again. Of several processes that want it at once one builds and the others wait.

    Args:
        reference: Such as ``imagefolder:PATH``.
        image_size: Side of the images.
        context_length: Token ids per caption.

    Raises:
        UserError: Nothing of that kind is there, or too many of its images are broken.
    """
    source = find_source(reference)
    out = _place(source, image_size, context_length)
    with locked(out):
        if not (out / META).exists():
            _log.warning("building a store of %s at %d pixels, once", reference, image_size)
            build(source, out=out, image_size=image_size, context_length=context_length, name=reference)
        use(out)
    return read_store(out)


def find_built(source: Source, image_size: int, context_length: int) -> Store | None:
    """The store of a source where it has been built.

    Args:
        source: The source.
        image_size: Side of the images.
        context_length: Token ids per caption.

    Raises:
        UserError: It is there, and damaged.
    """
    out = _place(source, image_size, context_length)
    return read_store(out) if (out / META).exists() else None


def _place(source: Source, image_size: int, context_length: int) -> Path:
    return cache_folder() / BUILT / f"{source.kind}-{_key(source, image_size, context_length)}"


def _key(source: Source, image_size: int, context_length: int) -> str:
    digest = hashlib.sha256()
    named = [VERSION, source.kind, source.origin(), image_size, context_length]
    digest.update(json.dumps(named, sort_keys=True).encode())
    for file in source.files():
        digest.update(json.dumps(_fingerprint(file)).encode())
    return digest.hexdigest()[:24]


def _fingerprint(file: Path) -> tuple[str, int, int]:
    try:
        state = found(file).stat()
    except OSError:  # it is missing, and counted when the store is built
        return str(file), -1, -1
    return str(file), state.st_size, state.st_mtime_ns
