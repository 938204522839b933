"""The batches of a training on its device."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple, Protocol
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from gaptune.data import Split
from gaptune.trial.augment import Boxes
from gaptune.trial.encoder import Drawn, DualEncoder
from gaptune.trial.heads import Heads, unit
from gaptune.trial.plan import Planner, StepPlan

_UNITS = 2**30
"""Bytes of features above which they are read and normalized in each step."""

_RESIDENT = 0.25
"""Fraction of a card's free memory that images may take, all of them at once; otherwise each step copies its own."""

_PART = 2**28
"""Bytes of images that are read at a time, for a card."""

_SLOTS = 3
"""Pinned buffers of a batch's images."""


class Batch(NamedTuple):
    """What a step computes with, on its device.

    Attributes:
        images: Inputs of the image encoder, n of them.
        texts: Inputs of the text encoder, n of them.
    """

    images: Tensor
    texts: Tensor


class Feed(Protocol):
    """The batches of a training."""

    def batches(self, first: int, last: int) -> Iterator[tuple[StepPlan, Batch]]:
        """The plans and batches of the steps from ``first`` up to, but without, ``last``."""


def feed_of(model: DualEncoder, split: Split, planner: Planner, device: torch.device) -> Feed:
    """The cheapest feed for a model and its training pairs.

    Features for heads stay in memory on the device, normalized, unless they are many. Images stay on a card where they
    are few beside its free memory; otherwise a thread reads them ahead and copies them while the card computes. On a
    CPU each step reads its own.

    Args:
        model: The model, on the device.
        split: The training pairs.
        planner: Plans the steps.
        device: Device of the model.
    """
    if isinstance(model, Heads):
        numbers = len(split) * model.features.image + len(split.texts) * model.features.text
        if numbers * torch.float32.itemsize <= _UNITS:
            return _Units(model, split, planner, device)
    if device.type != "cuda":
        return _Stored(model, split, planner, device)
    if len(split) * split.image_bytes <= _RESIDENT * _free_memory(device):
        return _Resident(model, split, planner, device)
    return _Ahead(model, split, planner, device)


def _free_memory(device: torch.device) -> float:
    """Bytes of a card that this process may still use: what is free there, within the limit of a trial."""
    free, total = torch.cuda.mem_get_info(device)
    return min(free, torch.cuda.get_per_process_memory_fraction(device) * total)


def moved(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor on a device; to a card by pinned memory, so that nobody waits for the copy."""
    if device.type == "cuda" and not tensor.is_cuda:
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


class _Stored:
    """Pairs that are read from the split in each step."""

    def __init__(self, model: DualEncoder, split: Split, planner: Planner, device: torch.device) -> None:
        self._model = model
        self._split = split
        self._planner = planner
        self._device = device

    def batches(self, first: int, last: int) -> Iterator[tuple[StepPlan, Batch]]:
        for step in range(first, last):
            plan = self._planner.plan(step)
            yield plan, self._batch(plan)

    def _batch(self, plan: StepPlan) -> Batch:
        return self._inputs(plan, torch.from_numpy(self._split.gather(plan.rows)), self._texts(plan))

    def _texts(self, plan: StepPlan) -> Tensor:
        return torch.from_numpy(self._model.trimmed(self._split.texts[plan.captions]))

    def _inputs(self, plan: StepPlan, images: Tensor, texts: Tensor) -> Batch:
        drawn = self._drawn(plan)
        images = self._model.image_inputs(moved(images, self._device), drawn.images)
        return Batch(images, self._model.text_inputs(moved(texts, self._device), drawn.texts))

    def _drawn(self, plan: StepPlan) -> Drawn:
        """What is drawn for the inputs, on the device."""

        def here(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else moved(tensor, self._device)

        images, texts = plan.drawn
        parts = Boxes(*(moved(each, self._device) for each in images)) if isinstance(images, Boxes) else here(images)
        return Drawn(parts, here(texts))


class _Resident(_Stored):
    """Pairs whose images are all on the card."""

    def __init__(self, model: DualEncoder, split: Split, planner: Planner, device: torch.device) -> None:
        super().__init__(model, split, planner, device)
        self._images = _on_device(split, device)

    def _batch(self, plan: StepPlan) -> Batch:
        images = self._images.index_select(0, moved(torch.from_numpy(plan.rows), self._device))
        return self._inputs(plan, images, self._texts(plan))


class _Loaded(NamedTuple):
    """A batch whose copy to the card has been started."""

    plan: StepPlan
    images: Tensor
    copied: Any


class _Ahead(_Stored):
    """Pairs whose images a thread reads ahead, into pinned buffers that take turns, and copies on a stream of its own.

    Without a card the same is done with plain memory and no stream.
    """

    def __init__(self, model: DualEncoder, split: Split, planner: Planner, device: torch.device) -> None:
        super().__init__(model, split, planner, device)
        cuda = device.type == "cuda"
        self._stream = torch.cuda.Stream(device) if cuda else None  # type: ignore[no-untyped-call]  # torch leaves it so
        self._buffers: list[Tensor | None] = [None] * _SLOTS
        self._copied: list[Any] = [None] * _SLOTS

    def batches(self, first: int, last: int) -> Iterator[tuple[StepPlan, Batch]]:
        with ThreadPoolExecutor(1, "read-ahead") as thread:
            waiting: deque[Future[_Loaded]] = deque()
            try:
                for step in range(first, min(first + _SLOTS - 1, last)):
                    waiting.append(thread.submit(self._load, step))
                for step in range(first, last):
                    loaded = waiting.popleft().result()
                    if step + _SLOTS - 1 < last:
                        waiting.append(thread.submit(self._load, step + _SLOTS - 1))
                    yield loaded.plan, self._ready(loaded)
            finally:
                for each in waiting:
                    each.cancel()

    def _load(self, step: int) -> _Loaded:
        """Runs in the thread, step after step."""
        plan, slot = self._planner.plan(step), step % _SLOTS
        buffer = self._buffers[slot]
        if buffer is None:
            found = torch.from_numpy(self._split.gather(plan.rows))
            buffer = self._buffers[slot] = found if self._stream is None else found.pin_memory()
        else:
            if self._copied[slot] is not None:  # what was in the buffer must have left it
                self._copied[slot].synchronize()
            self._split.gather(plan.rows, out=buffer.numpy())
        if self._stream is None:
            return _Loaded(plan, buffer.clone(), None)
        with torch.cuda.stream(self._stream):
            images = buffer.to(self._device, non_blocking=True)
            self._copied[slot] = copied = self._stream.record_event()
        return _Loaded(plan, images, copied)

    def _ready(self, loaded: _Loaded) -> Batch:
        if loaded.copied is not None:
            stream = torch.cuda.current_stream(self._device)
            stream.wait_event(loaded.copied)
            loaded.images.record_stream(stream)  # its memory is that of another stream
        return self._inputs(loaded.plan, loaded.images, self._texts(loaded.plan))


class _UnitFeatures(NamedTuple):
    """All features of a split, as ``unit`` gives them for ``normalize``, on a device."""

    normalize: bool
    device: torch.device
    images: Tensor
    texts: Tensor


class _Units(_Stored):
    """Pairs of features that are in memory, on the device; a step copies its own rows and nothing else."""

    _model: Heads

    def __init__(self, model: Heads, split: Split, planner: Planner, device: torch.device) -> None:
        super().__init__(model, split, planner, device)
        self._units = _units_of(split, model.normalize, device)

    def _batch(self, plan: StepPlan) -> Batch:
        drawn = self._drawn(plan)
        assert not isinstance(drawn.images, Boxes)
        images, texts = (
            features.index_select(0, moved(torch.from_numpy(rows), self._device))
            for features, rows in ((self._units.images, plan.rows), (self._units.texts, plan.captions))
        )
        return Batch(self._model.dropped(images, drawn.images), self._model.dropped(texts, drawn.texts))


_units: WeakKeyDictionary[Split, _UnitFeatures] = WeakKeyDictionary()
"""The features of splits that are open: a process that trains one trial after the other on a store makes them once."""

_images: WeakKeyDictionary[Split, Tensor] = WeakKeyDictionary()
"""The images of splits that are on a card, as above."""


def _units_of(split: Split, normalize: bool, device: torch.device) -> _UnitFeatures:
    found = _units.get(split)
    if found is None or (found.normalize, found.device) != (normalize, device):
        images, texts = (
            unit(torch.tensor(features, device=device), normalize=normalize)
            for features in (split.gather(np.arange(len(split))), split.texts)
        )
        found = _units[split] = _UnitFeatures(normalize, device, images, texts)
    return found


def _on_device(split: Split, device: torch.device) -> Tensor:
    found = _images.get(split)
    if found is None or found.device != device:
        found = _images[split] = _copied_images(split, device)
    return found


def _copied_images(split: Split, device: torch.device) -> Tensor:
    """All images of a split, or their features, on a device, read part by part."""
    parts = np.array_split(np.arange(len(split)), -(-len(split) * split.image_bytes // _PART))
    first = torch.from_numpy(split.gather(np.arange(1)))
    images = first.new_empty(len(split), *first.shape[1:], device=device)
    for part in parts:
        images[part[0] : part[-1] + 1] = torch.from_numpy(split.gather(part)).to(device)
    return images
