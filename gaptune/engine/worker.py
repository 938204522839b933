"""The Ray side of a trial: a thin adapter around ``gaptune.trial.train``.

A worker is reused for one trial after another, because importing torch and open_clip costs seconds. It keeps no state
of its own across trials but the opened data store; a trial that is started again finds its own checkpoints.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray import tune

from gaptune.engine.heartbeat import Beat
from gaptune.engine.system_metrics import Meter
from gaptune.errors import UserError
from gaptune.ledger.trial_file import TrialFile

if TYPE_CHECKING:
    from gaptune.trial import Report
from gaptune.storage.replica import Copies

FAULT = "gaptune_fault"
HALT = "gaptune_halt"
OVER = "over"
FULL_DISK = (errno.ENOSPC, errno.EDQUOT)


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
        except (NonFinite, UserError) as error:
            return {FAULT: f"non-finite: {error}" if isinstance(error, NonFinite) else str(error)}
        except torch.OutOfMemoryError as error:
            return {FAULT: f"out of memory: {str(error).splitlines()[0]}"}
        except OSError as error:
            if error.errno in FULL_DISK:
                return {HALT: f"{error.strerror} ({error.filename or 'checkpoints'})"}
            raise
        return {"epoch": report.epoch, "step": report.step, "scores": metrics}

    def _take_up(self, task: dict[str, Any]) -> Iterator[Report]:
        import torch

        from gaptune.config import DataConfig, TrialConfig
        from gaptune.data.open import open_training
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
        data = open_training(DataConfig.model_validate(task["data"]))
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
