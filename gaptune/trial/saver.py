"""Reports, and the checkpoints that make them count: on a card a thread writes them while the next steps are taken."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import torch
from torch import Tensor

from gaptune.trial.checkpoint import Checkpoints
from gaptune.trial.ranks import ALONE, Ranks, map_tensors


@dataclass(frozen=True)
class Report:
    """Metrics of a training so far.

    Attributes:
        epoch: Epochs trained, from 1.
        step: Steps trained.
        metrics: Values by their names in ``gaptune.metrics.table``, those of an evaluation after its name; all finite.
    """

    epoch: int
    step: int
    metrics: dict[str, float]


class Saver:
    """Writes the checkpoints of a training, and gives out each report once its checkpoint is on the disk.

    It is a context manager, which ends when the last checkpoint is written.

    Args:
        kept: The checkpoints; None to write none.
        beside: Whether a thread writes them beside the training, which is worth it on a card; on a CPU it would only
            take the training's time. Otherwise they are written at once.
        ranks: The processes that train the model, of which rank 0 writes. All give out a report after the same step.
    """

    def __init__(self, kept: Checkpoints | None, *, beside: bool, ranks: Ranks = ALONE) -> None:
        self._kept = kept
        self._ranks = ranks
        self._thread = ThreadPoolExecutor(1, "checkpoint") if beside and kept is not None else None
        self._waiting: deque[tuple[Report, Future[None]]] = deque()

    def save(self, report: Report, state: dict[str, Any]) -> None:
        """Writes a checkpoint of how things are now, whatever changes afterwards.

        Args:
            report: The report that waits for it.
            state: Content of the checkpoint.

        Raises:
            OSError: It was written at once, and could not be.
        """
        if self._thread is not None:
            copy = snapshot(state)
            copied = torch.cuda.current_stream().record_event() if torch.cuda.is_available() else None
            self._waiting.append((report, self._thread.submit(self._write, report.epoch, copy, copied)))
            return
        if self._kept is not None:
            self._kept.save(report.epoch, state)
        done: Future[None] = Future()
        done.set_result(None)
        self._waiting.append((report, done))

    def saved(self, *, wait: bool = False) -> Iterator[Report]:
        """The reports whose checkpoints are on the disk by now.

        Args:
            wait: Whether to wait for those that are not.

        Raises:
            OSError: A checkpoint could not be written.
        """
        while self._waiting and (wait or self._ranks.told(self._waiting[0][1].done())):
            report, done = self._waiting.popleft()
            done.result()
            yield report

    def _write(self, epoch: int, state: dict[str, Any], copied: torch.cuda.Event | None) -> None:
        """Runs in the thread."""
        assert self._kept is not None
        if copied is not None:
            copied.synchronize()
        self._kept.save(epoch, state)

    def __enter__(self) -> Saver:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._thread is not None:
            self._thread.shutdown()


def snapshot(value: Any) -> Any:
    """Copies of all tensors in nested mappings and lists, in pinned memory; those of a card arrive with its stream."""
    return map_tensors(_copy, value)


def _copy(tensor: Tensor) -> Tensor:
    copy = torch.empty_like(tensor, device="cpu", pin_memory=tensor.is_cuda)  # in the same order in memory
    return copy.copy_(tensor.detach(), non_blocking=True)
