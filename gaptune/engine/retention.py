"""Removes the checkpoints of ended trials, except the weights that are needed."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gaptune.ledger import Event, State, SweepRecord
from gaptune.results import summarize
from gaptune.storage.checkpoint_files import Keep, epoch_of, newest_weights, slim, surplus, trial_files, weights_epoch
from gaptune.storage.folder import Folder

_PATIENCE_S = 60.0


def needed(record: SweepRecord, keep: Literal["complete", "front", "none"]) -> dict[int, Keep]:
    """What is needed of each trial that has ended.

    Args:
        record: The sweep.
        keep: Whose weights are needed: those of complete trials, of trials on the front, or of none. A candidate
            with unfinished seeds may still join the front.

    Returns:
        What is needed, by trial number. Unfinished trials are not included.
    """
    members = {trial.number for member in summarize(record).front for trial in member.trials}
    found: dict[int, Keep] = {}
    for group in record.candidates().values():
        open_ = any(not trial.state.ended for trial in group)
        for trial in group:
            weights = keep == "complete" or (keep == "front" and (open_ or trial.number in members))
            if trial.state is State.COMPLETE and weights:
                found[trial.number] = "weights"
            elif trial.state.ended:
                found[trial.number] = "sample" if trial.number in members else "nothing"
    return found


class Retention:
    """Removes in its own thread what is not needed of ended trials, also of those from earlier sessions.

    The first error is reported, and the next session retries. An error does not end the sweep.

    Args:
        record: The sweep, kept up to date by the orchestrator.
        trials: Directory of all trials.
        keep: The sweep's setting ``checkpoints``.
        say: Callback that prints a line.
    """

    def __init__(
        self,
        record: SweepRecord,
        trials: Path | Folder,
        keep: Literal["complete", "front", "all"],
        say: Callable[[str], None],
    ) -> None:
        self._record = record
        self._trials = trials
        self._keep = keep
        self._say = say
        self._failed = False
        self._closed = False
        self._todo: queue.SimpleQueue[Callable[[], Mapping[int, Keep]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="checkpoint retention", daemon=True)
        if keep != "all":
            ended = needed(record, "complete")  # computed now, because the driver keeps changing the record
            self._todo.put(lambda: ended)
            self._thread.start()

    def __call__(self, event: Event) -> None:
        """Takes an event; a trial that has ended is slimmed."""
        if event["event"] == "end":
            keep: Keep = "weights" if event["state"] == State.COMPLETE else "nothing"
            self._todo.put(lambda: {event["trial"]: keep})

    def close(self, patience: float = _PATIENCE_S) -> bool:
        """Goes through all trials once more: a worker may have saved while its trial was ended by another.

        Args:
            patience: Seconds to wait at most.

        Returns:
            Whether everything that is not needed has been removed.
        """
        if self._keep != "all" and not self._closed:
            self._closed = True
            known = self._record.done  # then the front is final
            self._todo.put(lambda: needed(self._record, "front" if known and self._keep == "front" else "complete"))
            self._todo.put(None)
            self._thread.join(patience)
            if self._thread.is_alive():
                self._say("checkpoints that are not needed any more are left; gaptune clean removes them")
        return not self._failed and not self._thread.is_alive()

    def _work(self) -> None:
        while (wanted := self._todo.get()) is not None:
            try:
                self._tidy(wanted())
            except Exception as error:  # every storage client raises its own errors; none may end a sweep
                if not self._failed:
                    self._say(f"checkpoints that are not needed any more could not be removed: {error}")
                self._failed = True

    def _tidy(self, wanted: Mapping[int, Keep]) -> None:
        if len(wanted) > 1:
            files = trial_files(self._trials)
            wanted = {number: keep for number, keep in wanted.items() if surplus(files.get(number, ()), keep)}
        for number, keep in wanted.items():
            slim(self._trials, number, keep)


@dataclass(frozen=True)
class Freed:
    """Bytes that cleaning a sweep frees, and those that its trials keep.

    Attributes:
        optimizer: Bytes of optimizer states.
        weights: Bytes of weights that are not needed.
        kept: Bytes of everything else.
    """

    optimizer: int
    weights: int
    kept: int


def clean(
    record: SweepRecord, trials: Path | Folder, keep: Literal["complete", "front", "none"], *, remove: bool
) -> Freed:
    """Removes what is not needed of a sweep's ended trials, also from checkpoints of gaptune 0.1.0.

    Checkpoints of 0.1.0 hold weights and optimizer in one file. In a remote storage they are not split.

    Args:
        record: The sweep.
        trials: Directory of all trials.
        keep: Whose weights are needed.
        remove: Whether to remove the files; otherwise only count bytes.

    Raises:
        OSError: The directory cannot be read or written.
    """
    optimizer = weights = kept = 0
    wanted = needed(record, keep)
    for number, sizes in trial_files(trials).items():
        gone = surplus(sizes, wanted[number]) if number in wanted else []
        optimizers = {name for name in gone if epoch_of(name) is not None and weights_epoch(name) is None}
        optimizer += sum(sizes[name] for name in optimizers)
        weights += sum(sizes[name] for name in gone if name not in optimizers)
        inside = _optimizer_inside(trials, number, sizes, remove) if wanted.get(number) == "weights" else 0
        optimizer += inside
        kept += sum(sizes.values()) - sum(sizes[name] for name in gone) - inside
        if gone and remove:
            slim(trials, number, wanted[number])
    return Freed(optimizer, weights, kept)


def _optimizer_inside(trials: Path | Folder, number: int, names: Mapping[str, int], remove: bool) -> int:
    """Bytes of the optimizer state in the same file as the newest weights; removed if ``remove`` is set."""
    newest = newest_weights(names)
    if newest is None or isinstance(trials, Folder):
        return 0
    from gaptune.trial.checkpoint import optimizer_bytes, without_optimizer  # torch

    path = trials / f"{number:04d}" / newest
    found = optimizer_bytes(path)
    if found and remove:
        without_optimizer(path)
    return found
