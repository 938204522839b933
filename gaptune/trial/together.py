"""Lanes: trainings with reports, checkpoints and ends of their own that take their steps as one."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from gaptune.data import Store
from gaptune.ledger.state import next_report
from gaptune.trial.checkpoint import Checkpoints
from gaptune.trial.device import numerics
from gaptune.trial.feed import Batch, moved
from gaptune.trial.loop import Training
from gaptune.trial.loss import NonFinite
from gaptune.trial.plan import StepPlan
from gaptune.trial.saver import Report, Saver, snapshot
from gaptune.trial.stack import Inputs, Stack
from gaptune.trial.stacked_updates import StackedUpdates

LaneResult = Report | NonFinite
"""What a lane has to say: a report, or why it is over."""

Results = dict[int, LaneResult]
Position = tuple[int, int]


class Lane:
    """One of the trainings.

    Args:
        index: Its number, by which it reports.
        trial: The training.
        folder: Folder for its checkpoints; None for none.

    Attributes:
        index: As given.
        trial: As given.
        over: Whether it takes no more steps, for whatever reason.
        done: Epochs that it has been trained for.
        saver: Writes its checkpoints.
    """

    def __init__(self, index: int, trial: Training, folder: Path | None) -> None:
        self.index = index
        self.trial = trial
        self.over = False
        self.done = self._reported = 0
        self._kept = Checkpoints(folder) if folder is not None else None
        self._beside = trial.device.type == "cuda"
        self.saver = Saver(self._kept, beside=self._beside)

    def resume(self) -> Results:
        """Goes on from its newest checkpoint; gives that one's report."""
        epochs = self.trial.config.training.epochs
        state = self._kept.resume(self.trial.identity, epochs) if self._kept is not None else None
        if state is None:
            return {}
        self.done = self._reported = self.trial.restore(state)
        self.over = not self.ahead
        return {self.index: Report(**state["report"])}

    def saved(self, *, wait: bool = False) -> Results:
        """The report whose checkpoint is on the disk by now: there is one at most."""
        reports = list(self.saver.saved(wait=wait))
        return {self.index: reports[-1]} if reports and not self.over else {}

    @property
    def position(self) -> Position:
        """What decides the next batch: seed, and epochs that are done."""
        return self.trial.config.seed, self.done

    @property
    def ahead(self) -> bool:
        """Whether there are epochs ahead."""
        return self.done < self.trial.config.training.epochs

    def steps(self) -> tuple[int, int]:
        """The first step of the next epoch, and that of the one after it."""
        per_epoch = self.trial.planner.per_epoch
        return self.done * per_epoch, (self.done + 1) * per_epoch

    def next_epoch(self) -> Results:
        """Counts an epoch, and measures what it has led to, if a report is due; gives the lane's end, if it is that."""
        trial, training = self.trial, self.trial.config.training
        self.done += 1
        if self.done != next_report(self._reported + 1, training.epochs, training.evaluate_every):
            return {}
        try:
            report = trial.report(self._reported, self.done)
        except NonFinite as error:
            self.over = True
            return {self.index: error}
        self._reported = self.done
        if self._kept is not None and not self.ahead:
            trial.save_outcomes(self._kept.folder)
        state = trial.state(report, resumable=self.ahead)
        # Views are written with all that they are a view of.
        self.saver.save(report, state if self._beside or self._kept is None else snapshot(state))
        return {}


class Together:
    """Lanes that take their steps as one; those that are over by now are computed, too, and not updated.

    Args:
        lanes: The lanes, none of which is over.
        store: Training data.

    Attributes:
        lanes: As given.
        per_epoch: Steps of an epoch.
    """

    def __init__(self, lanes: Sequence[Lane], store: Store) -> None:
        self.lanes = lanes
        first = lanes[0].trial
        self._device, self._training = first.device, first.config.training
        self.per_epoch = first.planner.per_epoch
        self._shared = len({lane.position for lane in lanes}) == 1
        # However long the captions of others are, those of a lane are always as long.
        self._length = 0 if self._shared else first.model.trimmed(store.split("train").texts).shape[1]
        models, bf16 = [lane.trial.model for lane in lanes], first.config.training.precision == "bf16"
        self._stack = Stack(models, shared=self._shared, bf16=bf16)
        self._updates = StackedUpdates([lane.trial for lane in lanes], self._stack)

    def epoch(self) -> Iterator[Results]:
        """Takes the steps of the next epoch of each; yields after each step the lanes that it has ended."""
        readers = {lane.position: lane for lane in reversed(self.lanes) if not lane.over}
        feeds = [lane.trial.feed.batches(*lane.steps()) for lane in readers.values()]
        started = time.perf_counter()
        for number, found in enumerate(zip(*feeds, strict=True), start=1):
            with numerics(self._training, self._device):
                self._step(dict(zip(readers, found, strict=True)))
            last = number == self.per_epoch
            ended = self._failed() if last or self._device.type == "cpu" else {}  # a card would have to wait
            if last:
                self._updates.settle()
            spent = time.perf_counter() - started
            for lane in self.lanes:
                lane.trial.train_s += spent  # a part of it belongs to no lane
            yield ended
            if all(lane.over for lane in self.lanes):
                return
            started = time.perf_counter()

    def _step(self, found: dict[Position, tuple[StepPlan, Batch]]) -> None:
        some, batch = next(iter(found.values()))
        plans, batches = [], []
        for lane in self.lanes:
            theirs, batch = found.get(lane.position, (some, batch))
            plans.append(None if lane.over else lane.trial.planner.replan(theirs))
            batches.append(batch)
        betas = self._updates.betas(plans)
        self._updates.apply(plans, betas, self._stack.gradients(self._inputs(plans, batches, betas)))

    def _failed(self) -> Results:
        """Ends the lanes whose loss or gradient was not finite."""
        errors = {self.lanes[number]: error for number, error in self._updates.failed().items()}
        ended: Results = {lane.index: error for lane, error in errors.items() if not lane.over}
        for lane in errors:
            lane.over = True
        return ended

    def _inputs(self, plans: Sequence[StepPlan | None], batches: Sequence[Batch], betas: Tensor) -> Inputs:
        if self._shared:
            images, texts = batches[0].images, batches[0].texts
        else:
            images = torch.stack([each.images for each in batches])
            texts = torch.stack(
                [F.pad(each.texts, (0, max(0, self._length - each.texts.shape[1]))) for each in batches]
            )
        kept, renormalize = self._swaps(plans)
        return Inputs(images, texts, betas.detach(), kept, renormalize)

    def _swaps(self, plans: Sequence[StepPlan | None]) -> tuple[Tensor | None, Tensor | bool]:
        """What each entry keeps, all of itself in lanes that swap nothing; and which lanes normalize again."""
        shapes = [plan.kept for plan in plans if plan is not None and plan.kept is not None]
        if not shapes:
            return None, False
        whole = torch.ones_like(shapes[0])
        kept = [whole if plan is None or plan.kept is None else plan.kept for plan in plans]
        again = [
            each is not whole and lane.trial.config.swap.renormalize
            for each, lane in zip(kept, self.lanes, strict=True)
        ]
        mixed = moved(torch.tensor(again), self._device) if any(again) else False
        return moved(torch.stack(kept), self._device), mixed
