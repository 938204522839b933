"""The Ray side of a trial: a thin adapter around ``gaptune.trial.train``.

A worker is reused for one trial after another, because importing torch and open_clip costs seconds. It keeps no state
of its own across trials but the opened data store; a trial that is started again finds its own checkpoints.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray import tune

from gaptune.config import DataConfig, TrialConfig
from gaptune.data.open import open_training
from gaptune.engine.failures import message_of
from gaptune.engine.heartbeat import Beat
from gaptune.engine.messages import WorkerMessage, WorkerTask
from gaptune.engine.placement import memory_fraction
from gaptune.engine.system_metrics import Meter
from gaptune.ledger.trial_file import TrialFile
from gaptune.storage.replica import Copies

if TYPE_CHECKING:
    from gaptune.data import Store
    from gaptune.trial import Report


class Worker(tune.Trainable):  # type: ignore[misc]  # ray is untyped
    """Runs the trial of its ``WorkerTask``, one report per ``step``; each result is a ``WorkerMessage``.

    An exception that ``engine.failures`` does not know is left to Ray, which may try the trial again.
    """

    _opened: tuple[dict[str, Any], Store] | None = None
    _reports: Iterator[Report] | None = None
    _copies: Copies | None = None
    _meter: Meter | None = None

    def setup(self, config: dict[str, Any]) -> None:
        """Notes a trial. Its first step starts it: what can fail or hang there is known by its own name."""
        self._task = WorkerTask.from_ray(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Notes another trial for the same process."""
        self.cleanup()
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Trains until the next report."""
        if self._task.given_up:
            return WorkerMessage(failure="given up").to_ray()
        try:
            return self._report().to_ray()
        except Exception as error:
            message = message_of(error, self._task)
            if message is None:
                raise
            return message.to_ray()

    def _report(self) -> WorkerMessage:
        if self._reports is None:
            self._reports = self._start(self._task)
        report = next(self._reports)
        used = self._meter.read() if self._meter is not None else {}
        metrics = {**report.metrics, **used}
        self._file.report(time.time(), report.epoch, report.step, metrics)
        if self._copies is not None:
            self._copies.push()
        return WorkerMessage(report.epoch, report.step, metrics)

    def _start(self, task: WorkerTask) -> Iterator[Report]:
        device = take_device(task.gpu)
        import torch

        from gaptune.trial import train
        from gaptune.trial.allocator import keep_freed_memory

        keep_freed_memory()
        torch.set_num_threads(task.threads)
        with suppress(OSError):  # it may not exist on another node
            os.chdir(task.folder)
        folder = Path(task.checkpoints)
        if "://" in task.checkpoints:
            self._copies = Copies(task.checkpoints)
            folder = self._copies.pull()
        if task.system_metrics:
            self._meter = Meter(gpu=task.gpu > 0)
        if self._opened is None or self._opened[0] != task.data:
            self._opened = task.data, open_training(DataConfig.model_validate(task.data))
        config = TrialConfig.model_validate({**task.config, "device": device})
        self._file = TrialFile(folder, task.event)
        return train(config, self._opened[1], checkpoints=folder, progress=Beat(task.progress), weights=task.weights)

    def cleanup(self) -> None:
        """Leaves nothing of a trial on this node that the storage has."""
        self._reports = None  # its model is freed before the next one is built
        if self._task.gpu and "torch" in sys.modules:
            from gaptune.trial.gpu_memory import release_memory

            release_memory()
        if self._copies is not None:
            self._copies.remove()
            self._copies = None
        if self._meter is not None:
            self._meter.close()
            self._meter = None


def take_device(gpus: float) -> str:
    """Makes this process, before it uses a device, see the GPUs that it was given and no other.

    Ray hides the GPUs of others only from a process that was given some. The memory limit leaves enough for all trials
    on a GPU, so that they cannot starve each other.

    Args:
        gpus: GPUs that the process was given.

    Returns:
        The device: ``cuda`` or ``cpu``.

    Raises:
        NoGpuError: It was given a GPU that torch cannot use.
        UserError: The GPU is too small for the trials that share it.
    """
    if gpus == 0:
        os.environ.update(CUDA_VISIBLE_DEVICES="", HIP_VISIBLE_DEVICES="")
        return "cpu"
    import torch

    from gaptune.trial.device import NoGpuError, cuda_problem
    from gaptune.trial.gpu_memory import CONTEXT, limit_memory

    if problem := cuda_problem():
        raise NoGpuError(problem)
    total = torch.cuda.get_device_properties().total_memory
    limit_memory(memory_fraction(gpus, total, CONTEXT))
    return "cuda"
