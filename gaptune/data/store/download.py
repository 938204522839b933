"""Stores that lie elsewhere: copied to this machine once, checked, and then memory-mapped like any other."""

from __future__ import annotations

import json
import shutil
import uuid
from pathlib import Path

from gaptune.data.store.meta import META, PROMPT_FEATURES
from gaptune.data.store.reader import Store, read_store
from gaptune.errors import UserError, first_line
from gaptune.storage.cache import cache_folder, locked
from gaptune.storage.folder import Folder


def fetch_store(url: str) -> Store:
    """Opens a store by URL, from this machine's copy of it.

    Copies are kept by content hash under ``GAPTUNE_CACHE`` (default ``~/.cache/gaptune``), so a store that has been
    copied once is not copied again, whatever its URL, and one that has changed at its URL is. Of several processes
    that want it at once one copies and the others wait.

    Raises:
        UserError: Nothing is there, it is not a store, or what came is not what its hash says.
    """
    place = Folder(url)
    try:
        content = place.read(META)
    except (OSError, ValueError) as error:  # of Arrow too, which calls a bad URL an invalid value
        raise UserError(f"cannot read {url}: {first_line(error)}") from None
    if content is None:
        raise UserError(f"no data store at {url} (it has no {META})")
    try:
        meta = json.loads(content)
        name, files = str(meta["content_hash"]), [f"{split}.arrow" for split in meta["splits"]]
        files += [PROMPT_FEATURES] if meta.get("prompt_features") else []
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{url}/{META} is not the description of a store") from None
    copy = cache_folder() / "stores" / name
    with locked(copy):
        if not copy.exists():
            _copy(place, files, content, copy)
    return read_store(copy)


def _copy(place: Folder, files: list[str], meta: bytes, copy: Path) -> None:
    """Copies and checks under another name: a copy that is there is whole."""
    partial = copy.with_name(f"{copy.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        for file in files:
            try:
                there = place.get(file, partial / file)
            except OSError as error:
                raise UserError(f"cannot copy {place.url}: {first_line(error)}") from None
            if not there:
                raise UserError(f"corrupt store: {place.url} has no {file}")
        (partial / META).write_bytes(meta)
        read_store(partial).verify()
        partial.rename(copy)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
