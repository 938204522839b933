"""Several trainings as one: trials that differ only in numbers take their steps together, which fills a card."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from gaptune.config import ModelConfig, TrialConfig
from gaptune.data import Store
from gaptune.errors import first_line
from gaptune.ledger.state import next_report
from gaptune.trial.build_model import make_model
from gaptune.trial.checkpoint import Checkpoints
from gaptune.trial.embed import Progress, silent
from gaptune.trial.feed import Batch
from gaptune.trial.loop import Training, pick_device, train
from gaptune.trial.loss import NonFinite
from gaptune.trial.optim import align_state
from gaptune.trial.plan import StepPlan
from gaptune.trial.saver import Report, Saver, snapshot
from gaptune.trial.stack import Inputs, Stack
from gaptune.trial.step import contrast
from gaptune.trial.streams import global_seed

LaneResult = Report | NonFinite
"""What a lane has to say: a report, or why it is over."""

Results = dict[int, LaneResult]
Position = tuple[int, int]

_FREE: dict[str, Any] = {"temperature": True, "swap": True, "seed": True, "optimizer": {"lr", "weight_decay"}}


def lanes_key(config: TrialConfig) -> str:
    """What trials must have in common to train as lanes of one: all but temperature, swap, lr, weight decay, seed."""
    return json.dumps(config.model_dump(mode="json", exclude=_FREE), sort_keys=True)


def why_not(config: TrialConfig, store: Store) -> str | None:
    """Why a trial cannot be trained in lanes; None if it can. Whether its model can is tried once.

    Args:
        config: Configuration of the trial.
        store: Training data.

    Raises:
        UserError: Model and data do not fit.
    """
    training = config.training
    if training.micro_batch is not None and training.micro_batch < training.batch_size:
        return "training.micro_batch computes a batch in parts"
    if training.grad_checkpointing:
        return "training.grad_checkpointing computes activations twice"
    return _misfit(config.model, training.precision == "bf16", pick_device(config.device), store)


@lru_cache(maxsize=64)
def _misfit(given: ModelConfig, bf16: bool, device: str, store: Store) -> str | None:
    """Why a model cannot be stacked, by two steps of two of its kind on two pairs."""
    with global_seed(0, torch.device(device)):
        model = make_model(given, store.meta).to(device).train()
    split, rows = store.split("train"), np.arange(2)
    images = model.image_inputs(torch.from_numpy(split.gather(rows)).to(device))
    texts = model.text_inputs(torch.from_numpy(model.trimmed(split.texts[split.offsets[rows]])).to(device))
    models = model, copy.deepcopy(model)
    plain = copy.deepcopy(model)
    contrast(*plain.embed(images, texts), 1.0).backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    unused = [name for name, each in plain.named_parameters() if each.requires_grad and each.grad is None]
    if unused:  # AdamW leaves them as they are, but a vectorized gradient is 0 in place of none: they would decay
        return f"its loss does not depend on {unused[0]}"
    try:
        for shared in (True, False):
            many = (images, texts) if shared else (torch.stack([images] * 2), torch.stack([texts] * 2))
            Stack(models, shared=shared, bf16=bf16).backward(Inputs(*many, torch.ones(2, device=device), None, False))
    except Exception as error:  # whatever open_clip's and timm's models meet there
        reason = first_line(error)
        return "its towers draw random numbers" if "random" in reason else f"torch.func cannot vectorize it: {reason}"
    return None


def _none() -> Collection[int]:
    return ()


def train_lanes(
    configs: Sequence[TrialConfig],
    store: Store,
    *,
    checkpoints: Sequence[Path | None],
    progress: Progress = silent,
    weights: str | None = None,
    dropped: Callable[[], Collection[int]] = _none,
) -> Iterator[Results]:
    """Trains several trials as one. Each is what ``train`` would make of it, but for rounding; a single one is equal.

    Each has its own report, checkpoint and end. A lane that is over changes nothing in the others, not even a rounding
    error, until half of the lanes are over: then they go on without the rest.

    Args:
        configs: Trials of one ``lanes_key``.
        store: Training data.
        checkpoints: Folder for the checkpoints of each, None for none. Where it holds one, that trial resumes from
            there, as with ``train``, whatever the others do.
        progress: Called after each step of all, and after each batch that is evaluated.
        weights: Hash of the weights that they must start from; None for any.
        dropped: Asked after each yield for the lanes that need not go on.

    Yields:
        What lanes report, by index, whenever there is something. ``NonFinite`` is a lane's last.

    Raises:
        UserError: As for ``train``, in any lane.
    """
    if len(configs) == 1:
        yield from _train_one(configs[0], store, checkpoints[0], progress, weights, dropped)
        return
    with ExitStack() as savers:
        lanes = [
            _Lane(index, Training(config, store, progress), folder)
            for index, (config, folder) in enumerate(zip(configs, checkpoints, strict=True))
        ]
        for lane in lanes:
            lane.trial.check_start(weights)
            savers.enter_context(lane.saver)
        for results in _rounds(lanes, store, progress):
            yield results
            for index in dropped():
                lanes[index].over = True


def _train_one(
    config: TrialConfig,
    store: Store,
    folder: Path | None,
    progress: Progress,
    weights: str | None,
    dropped: Callable[[], Collection[int]],
) -> Iterator[Results]:
    try:
        for report in train(config, store, checkpoints=folder, progress=progress, weights=weights):
            yield {0: report}
            if 0 in dropped():
                return
    except NonFinite as error:
        yield {0: error}


class _Lane:
    """One of the trainings."""

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


def _rounds(lanes: Sequence[_Lane], store: Store, progress: Progress) -> Iterator[Results]:
    """Trains all lanes epoch by epoch until they are over; yields what they report, never nothing."""
    resumed: Results = {}
    for lane in lanes:
        resumed |= lane.resume()
    if resumed:
        yield resumed
    together: _Together | None = None
    while going := [lane for lane in lanes if not lane.over]:
        if together is None or 2 * len(going) <= len(together.lanes):
            together = _Together(going, store)
        for ended in together.epoch():
            progress()
            if results := _saved(going) | ended:
                yield results
        if results := _saved(going, wait=True):
            yield results
        ended = {}
        for lane in going:
            if not lane.over:
                ended |= lane.next_epoch()
        if results := _saved(going, wait=not all(lane.ahead for lane in going)) | ended:
            yield results
        for lane in going:
            lane.over |= not lane.ahead


def _saved(lanes: Sequence[_Lane], *, wait: bool = False) -> Results:
    """What lanes may report by now."""
    return {index: report for lane in lanes for index, report in lane.saved(wait=wait).items()}


class _Together:
    """Lanes that take their steps as one; those that are over by now are computed, too, and not updated."""

    def __init__(self, lanes: Sequence[_Lane], store: Store) -> None:
        self.lanes = lanes
        first = lanes[0].trial
        self._per_epoch = first.planner.per_epoch
        self._shared = len({lane.position for lane in lanes}) == 1
        # However long the captions of others are, those of a lane are always as long.
        self._length = 0 if self._shared else first.model.trimmed(store.split("train").texts).shape[1]
        models, bf16 = [lane.trial.model for lane in lanes], first.config.training.precision == "bf16"
        self._stack = Stack(models, shared=self._shared, bf16=bf16)
        for lane in lanes:
            align_state(lane.trial.optimizer)

    def epoch(self) -> Iterator[Results]:
        """Takes the steps of the next epoch of each; yields after each step the lanes that it has ended."""
        readers = {lane.position: lane for lane in reversed(self.lanes) if not lane.over}
        feeds = [lane.trial.feed.batches(*lane.steps()) for lane in readers.values()]
        started = time.perf_counter()
        for found in zip(*feeds, strict=True):
            ended = self._step(dict(zip(readers, found, strict=True)))
            spent = time.perf_counter() - started
            for lane in self.lanes:
                lane.trial.train_s += spent  # its own part of it cannot be told
            yield ended
            if all(lane.over for lane in self.lanes):
                return
            started = time.perf_counter()

    def _step(self, found: dict[Position, tuple[StepPlan, Batch]]) -> Results:
        some, batch = next(iter(found.values()))
        plans, batches = [], []
        for lane in self.lanes:
            theirs, batch = found.get(lane.position, (some, batch))
            plans.append(None if lane.over else lane.trial.planner.replan(theirs))
            batches.append(batch)
        losses = self._stack.backward(self._inputs(plans, batches))
        ended: Results = {}
        for lane, plan, loss in zip(self.lanes, plans, losses, strict=True):
            if plan is not None:
                try:
                    lane.trial.updates.apply(plan, loss)
                except NonFinite as error:
                    lane.over = True
                    ended[lane.index] = error
        return ended

    def _inputs(self, plans: Sequence[StepPlan | None], batches: Sequence[Batch]) -> Inputs:
        if self._shared:
            images, texts = batches[0].images, batches[0].texts
        else:
            images = torch.stack([each.images for each in batches])
            texts = torch.stack(
                [F.pad(each.texts, (0, max(0, self._length - each.texts.shape[1]))) for each in batches]
            )
        kept, renormalize = self._swaps(plans)
        return Inputs(images, texts, self._betas(plans), kept, renormalize)

    def _betas(self, plans: Sequence[StepPlan | None]) -> Tensor:
        """The logit scales; gradients lead from there to what is learned."""
        scales = [lane.trial.scale for lane in self.lanes]
        scheduled = [1.0 if plan is None or plan.beta is None else plan.beta for plan in plans]
        betas = list(torch.tensor(scheduled, dtype=scales[0].nu.dtype).to(scales[0].nu.device))
        for number, (scale, plan) in enumerate(zip(scales, plans, strict=True)):
            if plan is not None and plan.beta is None:
                scale.nu.grad = None
                beta = scale.beta()
                assert isinstance(beta, Tensor)
                betas[number] = beta
        return torch.stack(betas)

    def _swaps(self, plans: Sequence[StepPlan | None]) -> tuple[Tensor | None, Tensor | bool]:
        """What each entry keeps, all of itself in lanes that swap nothing; and which lanes normalize again."""
        shapes = [plan.kept for plan in plans if plan is not None and plan.kept is not None]
        if not shapes:
            return None, False
        device, whole = self.lanes[0].trial.device, torch.ones_like(shapes[0])
        kept = [whole if plan is None or plan.kept is None else plan.kept for plan in plans]
        again = [
            each is not whole and lane.trial.config.swap.renormalize
            for each, lane in zip(kept, self.lanes, strict=True)
        ]
        mixed = torch.tensor(again, device=device) if any(again) else False
        return torch.stack(kept).to(device), mixed
