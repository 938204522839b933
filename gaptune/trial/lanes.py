"""Several trainings as one: trials that differ only in numbers take their steps together, which fills a card."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gaptune.config import ModelConfig, TrialConfig
from gaptune.data import Store
from gaptune.errors import first_line
from gaptune.trial.build_model import make_model
from gaptune.trial.device import pick_device
from gaptune.trial.embed import Progress, silent
from gaptune.trial.loop import Training, train
from gaptune.trial.loss import NonFinite
from gaptune.trial.stack import Inputs, Stack
from gaptune.trial.step import contrast
from gaptune.trial.streams import global_seed
from gaptune.trial.together import Lane, LaneResult, Results, Together

__all__ = ["LaneResult", "lanes_key", "train_lanes", "why_not"]

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
    if training.compile:
        return "training.compile compiles the towers of one model"
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
            Stack(models, shared=shared, bf16=bf16).gradients(Inputs(*many, torch.ones(2, device=device), None, False))
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
) -> Iterator[dict[int, LaneResult]]:
    """Trains several trials as one. Each is what ``train`` would make of it, but for rounding; a single one is equal.

    Each has its own report, checkpoint and end. A lane that is over changes nothing in the others, not even a rounding
    error, until half of the lanes are over: then the others continue without them.

    Args:
        configs: Trials of one ``lanes_key``.
        store: Training data.
        checkpoints: Folder for the checkpoints of each, None for none. Where it holds one, that trial resumes from
            there, as with ``train``, whatever the others do.
        progress: Called after each step of all, with the epochs of the lane that has the fewest; and after each batch
            that is evaluated.
        weights: Hash of the weights that they must start from; None for any.
        dropped: Asked after each yield for the lanes that can stop.

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
            Lane(index, Training(config, store, progress), folder)
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


def _rounds(lanes: Sequence[Lane], store: Store, progress: Progress) -> Iterator[Results]:
    """Trains all lanes epoch by epoch until they are over; yields what they report, never nothing."""
    resumed: Results = {}
    for lane in lanes:
        resumed |= lane.resume()
    if resumed:
        yield resumed
    together: Together | None = None
    while going := [lane for lane in lanes if not lane.over]:
        if together is None or 2 * len(going) <= len(together.lanes):
            together = Together(going, store)
        done = min(lane.done for lane in going)
        for number, ended in enumerate(together.epoch(), start=1):
            progress(done + number / together.per_epoch)
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


def _saved(lanes: Sequence[Lane], *, wait: bool = False) -> Results:
    """What lanes may report by now."""
    return {index: report for lane in lanes for index, report in lane.saved(wait=wait).items()}
