"""Trains what a ``WorkerTask`` says in this process: its trials, or one rank of its trial."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gaptune.config import DataConfig, TrialConfig
from gaptune.data.open import open_training
from gaptune.engine.failures import message_of, non_finite
from gaptune.engine.heartbeat import Beat
from gaptune.engine.messages import TrialMessage, TrialTask, WorkerMessage, WorkerTask
from gaptune.engine.over import read_over
from gaptune.engine.placement import memory_fraction
from gaptune.engine.shared_paths import check_results
from gaptune.engine.system_metrics import Meter
from gaptune.ledger.trial_file import TrialFile
from gaptune.storage.replica import Copies

if TYPE_CHECKING:
    from gaptune.data import Store
    from gaptune.trial import Report
    from gaptune.trial.lanes import LaneResult

_JOIN_S = 300.0
"""Seconds in which the ranks of a trial, which have opened their data, must reach each other."""


@dataclass(frozen=True)
class _Kept:
    """What a process keeps of one of its trials.

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
        """Keeps a report; ``used`` are further metrics, of the process."""
        metrics = {**report.metrics, **used}
        self.file.report(time.time(), report.epoch, report.step, metrics)
        if self.copies is not None:
            self.copies.push()
        return TrialMessage(self.task.number, report.epoch, report.step, metrics)


class Trainer:
    """Trains in this process. It keeps nothing from one task to the next but the opened data store.

    Each method returns what there is to report. An exception that ``engine.failures`` does not know is raised.
    """

    def __init__(self) -> None:
        self._opened: tuple[dict[str, Any], Store] | None = None
        self._results: Iterator[dict[int, LaneResult]] | None = None
        self._meter: Meter | None = None
        self._kept: list[_Kept] = []
        self._task: WorkerTask | None = None

    def start(self, task: WorkerTask, rank: int = 0) -> WorkerMessage:
        """Opens everything that the training needs.

        Args:
            task: The trials.
            rank: Number of this process among those that train the trial; the first alone keeps what comes of it.
        """
        self._task, self._rank = task, rank
        return self._caught(self._open)

    def join(self, address: str) -> WorkerMessage:
        """Joins the other ranks of the trial, all of which have started.

        Args:
            address: ``HOST:PORT`` on which rank 0 listens.
        """
        self._address = address
        return self._caught(self._train_rank)

    def step(self) -> WorkerMessage:
        """Trains until the next report."""
        return self._caught(self._report)

    def clear(self) -> None:
        """Leaves nothing of the trials in this process, and nothing on this node that the storage has."""
        self._results = None  # its models are freed before the next ones are built
        if "gaptune.trial.ranks" in sys.modules:
            from gaptune.trial.ranks import leave

            leave()
        if self._task is not None and self._task.gpu and "torch" in sys.modules:
            from gaptune.trial.gpu_memory import release_memory

            release_memory()
        for kept in self._kept:
            if kept.copies is not None:
                kept.copies.remove()
        self._kept, self._task = [], None
        if self._meter is not None:
            self._meter.close()
            self._meter = None

    def _caught(self, method: Callable[[], WorkerMessage]) -> WorkerMessage:
        assert self._task is not None  # it has started
        try:
            return method()
        except Exception as error:
            message = message_of(error, self._task)
            if message is None:
                raise
            return message

    def _open(self) -> WorkerMessage:
        task = self._current
        self._device = take_device(min(1.0, task.gpu))
        import torch

        from gaptune.trial.allocator import keep_freed_memory

        keep_freed_memory()
        torch.set_num_threads(task.threads)
        with suppress(OSError):  # it may not exist on another node
            os.chdir(task.folder)
        if self._opened is None or self._opened[0] != task.data:
            self._opened = task.data, open_training(DataConfig.model_validate(task.data))
        if self._rank == 0:
            if task.system_metrics:
                self._meter = Meter(gpu=task.gpu > 0)
            for trial in task.trials:
                check_results(trial.checkpoints)
                self._kept.append(_Kept.of(trial))
        if task.ranks == 1:
            self._results = self._train_lanes()
        return WorkerMessage()

    def _train_lanes(self) -> Iterator[dict[int, LaneResult]]:
        from gaptune.trial.lanes import train_lanes

        task, folders = self._current, [kept.folder for kept in self._kept]
        beat, weights = Beat(task.place), task.weights
        return train_lanes(
            self._configs, self._store, checkpoints=folders, progress=beat, weights=weights, dropped=self._dropped
        )

    def _train_rank(self) -> WorkerMessage:
        from gaptune.trial import train
        from gaptune.trial.embed import silent
        from gaptune.trial.ranks import join

        task, first = self._current, self._rank == 0
        ranks = join(self._rank, task.ranks, self._address, self._device, _JOIN_S)
        reports = train(
            self._configs[0],
            self._store,
            checkpoints=self._kept[0].folder if first else None,
            progress=Beat(task.place) if first else silent,
            weights=task.weights,
            ranks=ranks,
        )
        self._results = ({0: report} for report in reports)
        return WorkerMessage()

    def _report(self) -> WorkerMessage:
        assert self._results is not None  # it has started, and joined
        results = next(self._results)
        if self._rank:
            return WorkerMessage()
        used = self._meter.read() if self._meter is not None else {}
        return WorkerMessage(tuple(self._message(lane, results[lane], used) for lane in sorted(results)))

    def _message(self, lane: int, result: LaneResult, used: dict[str, float]) -> TrialMessage:
        if isinstance(result, Exception):
            return TrialMessage(self._current.numbers[lane], failure=non_finite(result))
        return self._kept[lane].report(result, used)

    def _dropped(self) -> set[int]:
        """The lanes of trials that are over."""
        over = read_over(self._current.place)
        return {lane for lane, number in enumerate(self._current.numbers) if number in over}

    @property
    def _current(self) -> WorkerTask:
        assert self._task is not None
        return self._task

    @property
    def _store(self) -> Store:
        assert self._opened is not None
        return self._opened[1]

    @property
    def _configs(self) -> list[TrialConfig]:
        trials = self._current.trials
        return [TrialConfig.model_validate({**trial.config, "device": self._device}) for trial in trials]


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
