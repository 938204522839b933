"""The Ray side of a trial: a thin adapter around ``gaptune.trial.train``.

A worker is reused for one trial after another, because importing torch and open_clip costs seconds. It keeps no state
of its own across trials but the opened data store; a trial that is started again finds its own checkpoints.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import platform
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
from ray import tune

from gaptune.engine.progress import Beat
from gaptune.engine.usage import Meter
from gaptune.errors import UserError
from gaptune.ledger.trialfile import TrialFile
from gaptune.remote import Folder

if TYPE_CHECKING:
    from gaptune.trial import Report

FAULT = "gaptune_fault"
HALT = "gaptune_halt"
OVER = "over"
_ABANDONED_S = 7 * 86400.0
FULL_DISK = (errno.ENOSPC, errno.EDQUOT)

log = logging.getLogger(__name__)


class Worker(tune.Trainable):  # type: ignore[misc]  # ray is untyped
    """Runs the trial that its config describes, one epoch per ``step``.

    The config holds ``number``, ``config`` (a TrialConfig as a mapping), ``event`` (the trial's line of the ledger),
    ``data`` (a Data as a mapping), ``weights`` (the hash of those that the sweep starts from, if it starts from any),
    ``checkpoints`` (a folder that outlives the worker, or a URL), ``threads``, ``gpu``, ``folder`` (to which relative
    paths are relative), ``progress`` (where to write that it moves), ``system_metrics`` (whether it reports what it
    uses of the machine), and ``over`` when the trial has already been given up. A result holds ``epoch``, ``step`` and
    ``scores``; or, when the trial cannot go on and trying again would not help, the reason under ``gaptune_fault``; or,
    when no trial can go on here, that under ``gaptune_halt``. Any other exception is left to Ray, which may try the
    trial again.
    """

    _reports: Iterator[Report] | None = None
    _copies: Copies | None = None
    _meter: Meter | None = None

    def setup(self, config: dict[str, Any]) -> None:
        """Notes a trial. It is taken up by its first step: what can fail or hang there is known by its own name."""
        self._task = config

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Notes another trial for the same process."""
        self.cleanup()
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Trains and evaluates one epoch."""
        if self._task.get(OVER):
            return {FAULT: "given up"}
        hide_cards(self._task["gpu"])
        import torch

        from gaptune.trial import NonFinite

        try:
            if self._reports is None:
                self._reports = self._take_up(self._task)
            report = next(self._reports)
            used = self._meter.read() if self._meter is not None else {}
            metrics = {**report.metrics, **used}
            self._file.report(time.time(), report.epoch, report.step, metrics)
            if self._copies is not None:
                self._copies.push()
        except (NonFinite, UserError) as fault:
            return {FAULT: f"non-finite: {fault}" if isinstance(fault, NonFinite) else str(fault)}
        except torch.OutOfMemoryError as fault:
            return {FAULT: f"out of memory: {str(fault).splitlines()[0]}"}
        except OSError as fault:
            if fault.errno in FULL_DISK:
                return {HALT: f"{fault.strerror} ({fault.filename or 'checkpoints'})"}
            raise
        return {"epoch": report.epoch, "step": report.step, "scores": metrics}

    def _take_up(self, task: dict[str, Any]) -> Iterator[Report]:
        import torch

        from gaptune.config import Data, TrialConfig
        from gaptune.data import open_training
        from gaptune.trial import train

        torch.set_num_threads(task["threads"])
        if 0 < task["gpu"] < 1 and torch.cuda.is_available():  # neighbours on a card cannot starve each other
            torch.cuda.set_per_process_memory_fraction(task["gpu"])
        with suppress(OSError):  # on another machine it may not be there
            os.chdir(task["folder"])
        folder = Path(task["checkpoints"])
        if "://" in task["checkpoints"]:
            self._copies = Copies(task["checkpoints"])
            folder = self._copies.pull()
        if task["system_metrics"]:
            self._meter = Meter(gpu=task["gpu"] > 0 and torch.cuda.is_available())
        data = open_training(Data.model_validate(task["data"]))
        config = TrialConfig.model_validate(task["config"])
        self._file = TrialFile(folder, task["event"])
        return train(config, data, checkpoints=folder, progress=Beat(task["progress"]), weights=task.get("weights"))

    def cleanup(self) -> None:
        """Leaves nothing of a trial on this node that the storage has."""
        self._reports = None  # its model is let go before the next one is built
        if self._copies is not None:
            self._copies.remove()
            self._copies = None
        if self._meter is not None:
            self._meter.close()
            self._meter = None


def hide_cards(gpu: float) -> None:
    """Hides the machine's GPUs from a process that was given none: Ray hides those of others only from who has some.

    Args:
        gpu: GPUs that the process was given.
    """
    if gpu == 0:
        os.environ.update(CUDA_VISIBLE_DEVICES="", HIP_VISIBLE_DEVICES="")


class Copies:
    """The checkpoints of a trial in a storage, and their copies on this node.

    Args:
        url: The trial's folder in the storage.
    """

    def __init__(self, url: str) -> None:
        self._place = Folder(url)
        cache = Path(os.environ.get("GAPTUNE_CACHE", Path.home() / ".cache" / "gaptune")) / "trials"
        self._host = platform.node() or "host"
        _remove_abandoned(cache, self._host)
        # A home may be shared: process ids say nothing on other machines, and in containers little.
        self.folder = cache / f"{self._host}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._there: dict[str, str] = {}  # the content, as a digest, that the storage has of each file
        self._known: dict[Path, tuple[tuple[int, int, int], str]] = {}  # digests of files that have not been touched

    def pull(self) -> Path:
        """Copies the trial's checkpoints here; returns the folder.

        Raises:
            OSError: The storage does not answer.
        """
        self.remove()
        for name in self._place.names():
            with suppress(FileNotFoundError):  # the driver has just removed what is not needed any more
                if self._place.get(name, self.folder / name):
                    self._there[name] = self._digest(self.folder / name)
        return self.folder

    def push(self) -> None:
        """Makes the storage hold the checkpoints that are here; when it cannot, after the next epoch.

        A copy is there already if its content is that of the file here, and the storage has it in full.
        """
        here = {path.name: self._digest(path) for path in self.folder.glob("*.*") if path.suffix != ".partial"}
        try:
            sizes = self._place.tree()
            for name in sorted(here):  # an optimizer comes before its weights, which say that a checkpoint is there
                if here[name] != self._there.get(name) or (self.folder / name).stat().st_size != sizes.get(name):
                    self._place.put(self.folder / name, name)
                    self._there[name] = here[name]
            for name in self._there.keys() - here.keys():
                with suppress(FileNotFoundError):
                    self._place.delete(name)
                del self._there[name]
        except OSError as fault:
            log.warning("checkpoints could not be copied to %s: %s", self._place.url, fault)

    def remove(self) -> None:
        """Removes the copies here."""
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
    """Removes the copies that dead processes have left: of this machine at once, of others after a week."""
    for folder in cache.glob("*"):
        owner, _, pid = folder.name.rpartition("-")[0].rpartition("-")
        with suppress(OSError):
            here = owner == host and pid.isdecimal()
            age = time.time() - folder.stat().st_mtime
            if not psutil.pid_exists(int(pid)) if here else age > _ABANDONED_S:
                shutil.rmtree(folder, ignore_errors=True)
