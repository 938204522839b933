"""Stores that lie elsewhere: copied to this machine once, checked, and then memory-mapped like any other."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gaptune.data.store.meta import META, PROMPT_FEATURES, FileMeta
from gaptune.data.store.reader import Store, read_store
from gaptune.errors import UserError, first_line
from gaptune.storage.atomic import PARTIAL
from gaptune.storage.cache import STORES, cache_folder, free_space, locked, use
from gaptune.storage.folder import Folder
from gaptune.storage.paths import is_full

_WAITS_S = (1.0, 5.0, 15.0, 30.0)
"""Seconds before the next attempts to continue a copy that failed."""

_BLOCK = 2**20


def fetch_store(url: str) -> Store:
    """Opens a store by URL, from this machine's copy of it.

    Copies are kept by content hash under ``GAPTUNE_CACHE`` (default ``~/.cache/gaptune``), so a store that has been
    copied once is not copied again, whatever its URL, and one that has changed at its URL is. Of several processes
    that want it at once one copies and the others wait. A copy that was interrupted is continued.

    Raises:
        UserError: Nothing is there, it is not a store, what came is not what its hash says, or the disk is full.
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
        name, files = str(meta["content_hash"]), _files(meta)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{url}/{META} is not the description of a store") from None
    copy = cache_folder() / STORES / name
    with locked(copy):
        if not copy.exists():
            _copy(place, files, content, copy)
        use(copy)
    return read_store(copy)


def _files(meta: Mapping[str, Any]) -> dict[str, FileMeta]:
    """The files that ``store.json`` names."""
    described = {f"{split}.arrow": one for split, one in meta["splits"].items()}
    if meta.get("prompt_features"):
        described[PROMPT_FEATURES] = meta["prompt_features"]
    return {name: FileMeta(int(one["bytes"]), str(one["sha256"])) for name, one in described.items()}


def _copy(place: Folder, files: Mapping[str, FileMeta], meta: bytes, copy: Path) -> None:
    """Copies and checks under another name: a copy that is there is whole.

    Each file is hashed as it comes. What there is of an interrupted copy is not copied again.
    """
    partial = copy.with_name(f"{copy.name}{PARTIAL}")
    there = sum(file.stat().st_size for file in partial.glob("*"))
    free_space(sum(file.bytes for file in files.values()) - there, place.url)
    partial.mkdir(exist_ok=True)
    try:
        for name, described in files.items():
            _get_patiently(place, name, described, partial / name)
        (partial / META).write_bytes(meta)
        read_store(partial).check()
    except _UnreachableError as error:
        raise UserError(f"cannot copy {place.url}: {first_line(error.__cause__ or error)}") from None
    except UserError:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    partial.rename(copy)


class _UnreachableError(Exception):
    """The storage, which may come back; or this machine's disk is full."""


def _get_patiently(place: Folder, name: str, described: FileMeta, file: Path) -> None:
    waits = iter(_WAITS_S)
    while not file.exists():  # it has its name only when it is whole
        try:
            _get(place, name, described, file)
        except FileNotFoundError:
            raise UserError(f"corrupt store: {place.url} has no {name}") from None
        except OSError as error:
            wait = next(waits, None)
            if wait is None or is_full(error):
                raise _UnreachableError from error
            time.sleep(wait)


def _get(place: Folder, name: str, described: FileMeta, file: Path) -> None:
    """Copies a file, from where an earlier attempt ended.

    Raises:
        OSError: The storage is unreachable.
        UserError: The file is not what its hash says.
    """
    partial = file.with_name(f"{file.name}{PARTIAL}")
    digest = hashlib.sha256()
    with partial.open("ab+") as copy:
        copy.seek(0)
        while block := copy.read(_BLOCK):
            digest.update(block)
        resumed = copy.tell()
        for block in place.blocks(name, resumed):
            digest.update(block)
            copy.write(block)
    if digest.hexdigest() == described.sha256:
        partial.rename(file)
        return
    partial.unlink()
    if not resumed:
        raise UserError(f"corrupt store: {place.url}/{name} has changed since it was built")
    _get(place, name, described, file)  # the earlier attempt's end may not have reached the disk
