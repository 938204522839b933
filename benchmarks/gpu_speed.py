"""How fast is a step on a card, and how busy is the card? Parts of ``gpu.py``. Not a script."""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from gpu_data import Setting, configured, random_images, wait
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from gaptune.config.models import PRESETS
from gaptune.data import Store
from gaptune.trial.loop import Training

Figures = dict[str, float | str | None]
COUNTED = 8  # pairs whose floating-point operations are counted, to be multiplied


class Case(NamedTuple):
    """A training whose steps are measured.

    Attributes:
        model: Name of the model.
        side: Side of its images.
        stored: Side of the stored images, which are cropped.
        batch: Pairs in a step.
        precision: ``fp32``, ``tf32`` or ``bf16``.
        further: Another field of ``training``, with its value.
    """

    model: str
    side: int
    stored: int
    batch: int
    precision: str
    further: tuple[str, int] | None = None

    @property
    def name(self) -> str:
        """The name in tables."""
        more = "" if self.further is None else f", {self.further[0]} {self.further[1]:d}"
        return f"{self.model}, {self.side} px, batch {self.batch}, {self.precision}{more}"


RN50 = Case("RN50", 224, 256, 1024, "bf16")
PLAIN = (
    RN50,
    Case("photos-small", 64, 72, 128, "fp32"),
    Case("photos-small", 64, 72, 1024, "bf16"),
    Case("scenes-tiny", 32, 32, 128, "fp32"),
)
PARTED = (RN50._replace(further=("micro_batch", 256)),)
COMPILED = (RN50._replace(further=("compile", True)),)
SMALL = Case("scenes-tiny", 32, 36, 8, "fp32")


class Counts(NamedTuple):
    """Numbers of steps: before the clock starts, measured, and profiled."""

    warm: int = 8
    timed: int = 24
    profiled: int = 4


def counts(setting: Setting) -> Counts:
    """How many steps."""
    return Counts(1, 2, 1) if setting.small else Counts()


def peak(setting: Setting) -> dict[str, float]:
    """Teraflops of a large matrix product, the best of three sizes, by precision."""
    found = {}
    for precision in ("bf16", "tf32", "fp32"):
        torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        found[precision] = max(teraflops(setting, side, dtype) for side in sides(setting))
    return found


def sides(setting: Setting) -> tuple[int, ...]:
    """Sides of the matrices."""
    return (64,) if setting.small else (4096, 8192, 16384)


def teraflops(setting: Setting, side: int, dtype: torch.dtype, repeats: int = 20) -> float:
    """Teraflops of the product of two square matrices."""
    one, other = (torch.randn(side, side, device=setting.device, dtype=dtype) for _ in range(2))
    for _ in range(3):
        one @ other
    wait(setting.device)
    started = time.perf_counter()
    for _ in range(repeats):
        one @ other
    wait(setting.device)
    return 2e-12 * side**3 * repeats / (time.perf_counter() - started)


def of_each_case(
    setting: Setting, cases: Iterable[Case], measure: Callable[[Setting, Case], Figures]
) -> dict[str, Figures]:
    """What is measured of each case, or its error: a case that does not fit onto the card leaves the others."""
    found: dict[str, Figures] = {}
    for case in cases:
        try:
            found[case.name] = measure(setting, case)
        except Exception as error:  # whatever it is, it belongs into the results
            found[case.name] = {"error": f"{type(error).__name__}: {error}"[:300]}
    return found


class Timed(NamedTuple):
    """What the steps of a training take.

    Attributes:
        seconds: Duration of a step, with everything between steps.
        kernels: Seconds of a step in which the card computed; None where that is not known.
    """

    seconds: float
    kernels: float | None


def timed(steps: Iterator[None], numbers: Counts, device: str) -> Timed:
    """Takes steps before the clock starts, measured, and profiled."""
    take(steps, numbers.warm, device)
    started = time.perf_counter()
    take(steps, numbers.timed, device)
    seconds = (time.perf_counter() - started) / numbers.timed
    if device == "cpu":
        return Timed(seconds, None)
    with profile(activities=[ProfilerActivity.CUDA]) as profiled:
        take(steps, numbers.profiled, device)
    return Timed(seconds, busy_seconds(profiled) / numbers.profiled)


def take(steps: Iterator[None], number: int, device: str) -> None:
    """Takes so many steps, and waits until the card has taken them too."""
    for _ in range(number):
        next(steps)
    wait(device)


def busy_seconds(profiled: profile) -> float:
    """Seconds in which at least one kernel ran."""
    spans = sorted(
        (event.time_range.start, event.time_range.end)
        for event in profiled.events()
        if event.device_type == DeviceType.CUDA
        and not event.is_user_annotation  # an optimizer's step, say, with the gaps between its kernels
        and not event.name.startswith(("Memcpy", "Memset"))
    )
    busy, until = 0.0, -math.inf
    for start, end in spans:
        busy += max(0.0, end - max(start, until))
        until = max(until, end)
    return 1e-6 * busy


def speed(setting: Setting) -> dict[str, Figures]:
    """Pairs a second, and more, of trainings as a trial runs them."""
    small = (SMALL, SMALL._replace(further=("micro_batch", 4)))
    return of_each_case(setting, small if setting.small else (*PLAIN, *PARTED), step_speed)


def compiled(setting: Setting) -> dict[str, Figures]:
    """The same of the large model with compiled towers; compiling takes more than a minute."""
    return of_each_case(setting, () if setting.small else COMPILED, step_speed)


def step_speed(setting: Setting, case: Case) -> Figures:
    """Measures the steps of a training.

    Returns:
        Pairs a second; milliseconds and operations of a step; the fraction of the time in which the card is idle; GiB.
    """
    numbers = counts(setting)
    per_epoch = 2 if setting.small else 8
    store = random_images(setting, case.stored, per_epoch * case.batch)
    epochs = math.ceil(sum(numbers) / per_epoch)
    given = {"training__batch_size": case.batch, "training__precision": case.precision, "training__epochs": epochs}
    given |= {"augment__crop_min": 0.5, "augment__flip": True}
    if case.further is not None:
        given[f"training__{case.further[0]}"] = case.further[1]
    if setting.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    training = Training(configured(setting.device, case.model, **given), store)
    taken = timed(training.steps(0, epochs), numbers, setting.device)
    memory = torch.cuda.max_memory_allocated() / 2**30 if setting.device == "cuda" else None
    return {
        "pairs_per_s": case.batch / taken.seconds,
        "step_ms": 1000 * taken.seconds,
        "step_tflop": 1e-12 * operations(training, store, case.batch),
        "idle": None if taken.kernels is None else max(0.0, 1 - taken.kernels / taken.seconds),
        "memory_gib": memory,
    }


def operations(training: Training, store: Store, batch: int) -> float:
    """Floating-point operations of a step: towers and contrast, forward and backward."""
    split, device = store.split("train"), training.scale.nu.device
    tokens = torch.from_numpy(split.texts[:COUNTED].astype(np.int64))
    longest = int((tokens != 0).sum(1).max())
    images, texts = torch.from_numpy(split.gather(np.arange(COUNTED))).to(device), tokens[:, :longest].to(device)
    with FlopCounterMode(display=False) as counter:
        x, y = training.model.encode_image(images), training.model.encode_text(texts)
        (x.sum() + y.sum()).backward()
    return counter.get_total_flops() * batch / COUNTED + 6.0 * batch**2 * x.shape[1]


def open_clip(setting: Setting) -> dict[str, Figures]:
    """Pairs a second of ``open_clip_train.train.train_one_epoch`` for the cases, without any loading of data."""
    return of_each_case(setting, (SMALL,) if setting.small else PLAIN, open_clip_speed)


def open_clip_speed(setting: Setting, case: Case) -> Figures:
    """Measures open_clip's step on one batch that is in pinned memory as normalized floats."""
    from open_clip import ClipLoss, create_model
    from open_clip.model import CLIP
    from open_clip_train.train import train_one_epoch

    if case.model in PRESETS:
        model = CLIP(**PRESETS[case.model], output_dict=True)
    else:
        model = create_model(case.model, output_dict=True)
    # As its main.py sets them, but for precision.
    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = case.precision != "fp32"
    model = model.to(setting.device)
    matrices = [each for each in model.parameters() if each.ndim >= 2]
    vectors = [each for each in model.parameters() if each.ndim < 2]
    groups = [{"params": vectors, "weight_decay": 0.0}, {"params": matrices, "weight_decay": 0.2}]
    loader = Repeated(setting, case)
    settings = argparse.Namespace(
        **{"device": setting.device, "precision": "amp_bf16" if case.precision == "bf16" else "fp32"},
        **{"distill": False, "accum_freq": 1, "skip_scheduler": True, "grad_clip_norm": None, "horovod": False},
        **{"rank": 0, "world_size": 1, "batch_size": case.batch, "log_every_n_steps": 10**9, "wandb": False},
    )
    data = {"train": argparse.Namespace(dataloader=loader, set_epoch=lambda epoch: None)}
    train_one_epoch(model, data, ClipLoss(), 0, torch.optim.AdamW(groups, lr=5e-4), None, None, None, settings)
    seconds = loader.seconds()
    return {"pairs_per_s": case.batch / seconds, "step_ms": 1000 * seconds}


class Repeated:
    """A loader that gives the same batch again and again, and notes the time after the warm-up."""

    def __init__(self, setting: Setting, case: Case) -> None:
        numbers = counts(setting)
        self._device, self._warm, self._timed = setting.device, numbers.warm, numbers.timed
        self.num_batches = self._warm + self._timed
        self.num_samples = self.num_batches * case.batch
        images = torch.randn(case.batch, 3, case.side, case.side)
        texts = torch.randint(1, 49_000, (case.batch, 77))
        self._batch = (images.pin_memory(), texts.pin_memory()) if setting.device == "cuda" else (images, texts)
        self._started = 0.0

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for step in range(self.num_batches):
            if step == self._warm:
                wait(self._device)
                self._started = time.perf_counter()
            yield self._batch

    def seconds(self) -> float:
        """Duration of a step."""
        wait(self._device)
        return (time.perf_counter() - self._started) / self._timed
