"""Copies of a trial's checkpoints between a sweep's remote storage and this machine."""

from __future__ import annotations

import hashlib
import logging
import os
import platform
import shutil
import time
import uuid
from contextlib import suppress
from pathlib import Path

import psutil

from gaptune.storage.atomic import PARTIAL
from gaptune.storage.cache import cache_folder
from gaptune.storage.folder import Folder

_ABANDONED_S = 7 * 86400.0


log = logging.getLogger(__name__)


class Copies:
    """The checkpoints of a trial in the remote storage, with local copies on this node.

    Args:
        url: URL of the trial's folder in the remote storage.
    """

    def __init__(self, url: str) -> None:
        self._place = Folder(url)
        cache = cache_folder() / "trials"
        self._host = platform.node() or "host"
        _remove_abandoned(cache, self._host)
        # The home directory may be shared. Process ids are not unique across machines and containers.
        self.folder = cache / f"{self._host}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._there: dict[str, str] = {}  # digests of the files in the remote storage
        self._known: dict[Path, tuple[tuple[int, int, int], str]] = {}  # digests of unmodified local files

    def pull(self) -> Path:
        """Copies the trial's checkpoints to this node; returns the local folder.

        Raises:
            OSError: The remote storage is unreachable.
        """
        self.remove()
        for name in self._place.names():
            with suppress(FileNotFoundError):  # the driver has just deleted it as no longer needed
                if self._place.get(name, self.folder / name):
                    self._there[name] = self._digest(self.folder / name)
        return self.folder

    def push(self) -> None:
        """Copies the local checkpoints to the remote storage, and deletes those there that no longer exist here.

        Files whose complete copies are in the remote storage are skipped. A failure is logged; the next call, after
        the next epoch, retries.
        """
        here = {path.name: self._digest(path) for path in self.folder.glob("*.*") if path.suffix != PARTIAL}
        try:
            sizes = self._place.tree()
            for name in sorted(here):  # the optimizer file first: the weights file marks a complete checkpoint
                if here[name] != self._there.get(name) or (self.folder / name).stat().st_size != sizes.get(name):
                    self._place.put(self.folder / name, name)
                    self._there[name] = here[name]
            for name in self._there.keys() - here.keys():
                with suppress(FileNotFoundError):
                    self._place.delete(name)
                del self._there[name]
        except OSError as error:
            log.warning("cannot copy checkpoints to %s: %s", self._place.url, error)

    def remove(self) -> None:
        """Removes the local copies."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self._there, self._known = {}, {}

    def _digest(self, path: Path) -> str:
        found = path.stat()
        state = found.st_ino, found.st_mtime_ns, found.st_size
        known = self._known.get(path)
        if known is None or known[0] != state:
            with path.open("rb") as file:
                known = self._known[path] = state, hashlib.file_digest(file, "sha256").hexdigest()
        return known[1]


def _remove_abandoned(cache: Path, host: str) -> None:
    """Removes copies of dead processes: those of this machine at once, those of other machines after a week."""
    for folder in cache.glob("*"):
        owner, _, pid = folder.name.rpartition("-")[0].rpartition("-")
        with suppress(OSError):
            here = owner == host and pid.isdecimal()
            age = time.time() - folder.stat().st_mtime
            if not psutil.pid_exists(int(pid)) if here else age > _ABANDONED_S:
                shutil.rmtree(folder, ignore_errors=True)
