"""The Ray side of trials: a thin adapter around ``gaptune.trial.lanes.train_lanes``.

A worker is reused for further trials, because importing torch and open_clip costs seconds. It keeps no state of its own
across trials but the opened data store; a trial that is started again finds its own checkpoints.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray import tune

from gaptune.config import DataConfig, TrialConfig
from gaptune.data.open import open_training
from gaptune.engine.failures import message_of, non_finite
from gaptune.engine.heartbeat import Beat
from gaptune.engine.messages import TrialMessage, TrialTask, WorkerMessage, WorkerTask
from gaptune.engine.over import read_over
from gaptune.engine.placement import memory_fraction
from gaptune.engine.system_metrics import Meter
from gaptune.ledger.trial_file import TrialFile
from gaptune.storage.replica import Copies

if TYPE_CHECKING:
    from gaptune.data import Store
    from gaptune.trial import Report
    from gaptune.trial.lanes import LaneResult


@dataclass(frozen=True)
class _Kept:
    """What a worker keeps of one of its trials.

    Attributes:
        task: The trial.
        folder: Folder of its checkpoints on this node.
        file: Its own copy of its reports.
        copies: The copies of its checkpoints in the remote storage, if there is one.
    """

    task: TrialTask
    folder: Path
    file: TrialFile
    copies: Copies | None

    @classmethod
    def of(cls, task: TrialTask) -> _Kept:
        """Opens the folder of a trial."""
        copies = Copies(task.checkpoints) if "://" in task.checkpoints else None
        folder = copies.pull() if copies else Path(task.checkpoints)
        return cls(task, folder, TrialFile(folder, task.event), copies)

    def report(self, report: Report, used: dict[str, float]) -> TrialMessage:
        """Keeps a report; ``used`` are further metrics, of the worker."""
        metrics = {**report.metrics, **used}
        self.file.report(time.time(), report.epoch, report.step, metrics)
        if self.copies is not None:
            self.copies.push()
        return TrialMessage(self.task.number, report.epoch, report.step, metrics)


class Worker(tune.Trainable):  # type: ignore[misc]  # ray is untyped
    """Runs the trials of its ``WorkerTask``, one report or several per ``step``; each result is a ``WorkerMessage``.

    An exception that ``engine.failures`` does not know is left to Ray, which may try the trials again.
    """

    _opened: tuple[dict[str, Any], Store] | None = None
    _results: Iterator[dict[int, LaneResult]] | None = None
    _meter: Meter | None = None

    def setup(self, config: dict[str, Any]) -> None:
        """Notes trials. The first step starts them: what can fail or hang there is known by its own name."""
        self._task = WorkerTask.from_ray(config)
        self._kept: list[_Kept] = []

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Notes other trials for the same process."""
        self.cleanup()
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Trains until the next report."""
        if not self._task.trials:
            return WorkerMessage().to_ray()
        try:
            return self._report().to_ray()
        except Exception as error:
            message = message_of(error, self._task)
            if message is None:
                raise
            return message.to_ray()

    def _report(self) -> WorkerMessage:
        if self._results is None:
            self._results = self._start(self._task)
        results = next(self._results)
        used = self._meter.read() if self._meter is not None else {}
        return WorkerMessage(tuple(self._message(lane, results[lane], used) for lane in sorted(results)))

    def _message(self, lane: int, result: LaneResult, used: dict[str, float]) -> TrialMessage:
        if isinstance(result, Exception):
            return TrialMessage(self._task.numbers[lane], failure=non_finite(result))
        return self._kept[lane].report(result, used)

    def _start(self, task: WorkerTask) -> Iterator[dict[int, LaneResult]]:
        device = take_device(task.gpu)
        import torch

        from gaptune.trial.allocator import keep_freed_memory
        from gaptune.trial.lanes import train_lanes

        keep_freed_memory()
        torch.set_num_threads(task.threads)
        with suppress(OSError):  # it may not exist on another node
            os.chdir(task.folder)
        if task.system_metrics:
            self._meter = Meter(gpu=task.gpu > 0)
        if self._opened is None or self._opened[0] != task.data:
            self._opened = task.data, open_training(DataConfig.model_validate(task.data))
        for trial in task.trials:
            self._kept.append(_Kept.of(trial))
        configs = [TrialConfig.model_validate({**trial.config, "device": device}) for trial in task.trials]
        folders = [kept.folder for kept in self._kept]
        store, beat, weights = self._opened[1], Beat(task.place), task.weights
        return train_lanes(configs, store, checkpoints=folders, progress=beat, weights=weights, dropped=self._dropped)

    def _dropped(self) -> set[int]:
        """The lanes of trials that are over."""
        over = read_over(self._task.place)
        return {lane for lane, number in enumerate(self._task.numbers) if number in over}

    def cleanup(self) -> None:
        """Leaves nothing of the trials on this node that the storage has."""
        self._results = None  # its models are freed before the next ones are built
        if self._task.gpu and "torch" in sys.modules:
            from gaptune.trial.gpu_memory import release_memory

            release_memory()
        for kept in self._kept:
            if kept.copies is not None:
                kept.copies.remove()
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
