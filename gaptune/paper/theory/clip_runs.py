"""A real CLIP: how the gap moves in its first steps (Theorem 3.3), and over a long training on few pairs (3.2)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import torch
from scipy.stats import linregress

from gaptune.config import TrialConfig
from gaptune.data import Store
from gaptune.metrics.geometry import gap
from gaptune.trial.loss import clip_loss
from gaptune.trial.model import ClipModel
from gaptune.trial.optim import make_optimizer, set_lr
from gaptune.trial.streams import generator, global_seed
from gaptune.trial.temperature import LogitScale, scheduled_tau

Values = npt.NDArray[np.float64]
PAIRS = 2048
"""Pairs of the long training, as in the paper."""
_CLOSING_TAU = 0.4
_CLOSING_EPOCHS = 20
_BLOCK = 512


def _quiet(done: int) -> None:
    """Says nothing of the progress."""


@dataclass(frozen=True)
class LongRun:
    """A long training on a fixed set of pairs.

    Attributes:
        step: Steps trained at each record, shape (m,), from 0.
        gap: Δ of the training pairs, shape (m,).
        tau: τ, shape (m,).
        x: Image features at the end, shape (pairs, d).
        y: Text features at the end, shape (pairs, d).
    """

    step: Values
    gap: Values
    tau: Values
    x: Values
    y: Values


@dataclass(frozen=True)
class LineFit:
    """How well Δ over time is a line in some function of the step.

    Attributes:
        form: Which function.
        r2: Fraction of the variance of Δ (of log Δ for a power law) that the line explains.
        slope: Its slope.
    """

    form: str
    r2: float
    slope: float


def first_steps(
    config: TrialConfig, store: Store, *, starts: int = 100, steps: int = 10, progress: Callable[[int], object] = _quiet
) -> Values:
    """How Δ changes over the first steps, from different initial weights.

    Every start trains on the same batches at the configuration's highest learning rate; Δ is that of the validation
    images with their first captions, by the features that the loss would see (batch norm by the batch).

    Args:
        config: Model, temperature, optimizer and batch; its seed is replaced by 0, 1, ….
        store: The data.
        starts: Initializations.
        steps: Steps of each.
        progress: Called with the number of starts done.

    Returns:
        Δ after the last step minus Δ before the first, shape (starts,).
    """
    changes = []
    held_out = _Pairs(store, "val", len(store.split("val")))
    for seed in range(starts):
        pairs = _Pairs(store, "train", steps * config.training.batch_size)
        run = _Run(config.model_copy(update={"seed": seed}), store)
        before = gap(*run.features(held_out, as_trained=True))
        for index in range(steps):
            rows = np.arange(index * config.training.batch_size, (index + 1) * config.training.batch_size)
            run.step(pairs, rows)
        changes.append(gap(*run.features(held_out, as_trained=True)) - before)
        progress(seed + 1)
    return np.array(changes)


def long_run(
    config: TrialConfig,
    store: Store,
    *,
    epochs: int,
    closed_first: bool = False,
    pairs: int = PAIRS,
    progress: Callable[[int], object] = _quiet,
) -> LongRun:
    """Trains on the first pairs of a store for long, at a constant learning rate, and watches Δ on those pairs.

    Args:
        config: Model, temperature, optimizer, batch and seed.
        store: The data; each image with its first caption.
        epochs: Passes over the pairs.
        closed_first: Before the clock starts, train 20 epochs at a fixed τ of 0.4, which closes the gap.
        pairs: How many.
        progress: Called with the number of epochs done.
    """
    data, run = _Pairs(store, "train", pairs), _Run(config, store)
    batch = config.training.batch_size
    if closed_first:
        for epoch in range(_CLOSING_EPOCHS):
            for rows in _batches(data, batch, config.seed, epoch - _CLOSING_EPOCHS):
                run.step(data, rows, 1.0 / _CLOSING_TAU)
    example = set(np.unique(np.round(np.geomspace(1, epochs, 60))).astype(int).tolist())
    records = [(0, gap(*run.features(data)), 1.0 / run.beta)]
    for epoch in range(epochs):
        for rows in _batches(data, batch, config.seed, epoch):
            run.step(data, rows)
        if epoch + 1 in example:
            records.append(((epoch + 1) * (pairs // batch), gap(*run.features(data)), 1.0 / run.beta))
        progress(epoch + 1)
    x, y = run.features(data)
    step, gaps, taus = np.array(records, dtype=float).T
    return LongRun(step, gaps, taus, x.double().numpy(), y.double().numpy())


def fit_lines(run: LongRun) -> list[LineFit]:
    """Fits Δ after its peak by the paper's 1/log² t, and by what else it might be.

    Few decades of t tell slow functions of it apart badly: a good fit of one form is no evidence against another that
    fits as well, so all are given.
    """
    tail = np.arange(len(run.step)) >= max(2, int(run.gap.argmax()))
    t, gaps = run.step[tail], run.gap[tail]
    forms = {"Δ against 1/log² t": 1 / np.log(t) ** 2, "Δ against 1/log t": 1 / np.log(t), "Δ against log t": np.log(t)}
    fits = [(form, linregress(across, gaps)) for form, across in forms.items()]
    fits.append(("log Δ against log t (a power law)", linregress(np.log(t), np.log(gaps))))
    return [LineFit(form, float(fit.rvalue**2), float(fit.slope)) for form, fit in fits]


class _Pairs:
    """Images with their first captions, in memory."""

    def __init__(self, store: Store, split: str, count: int) -> None:
        data = store.split(split)
        rows = np.arange(count)
        self.images = torch.from_numpy(data.gather(rows))
        self.tokens = torch.from_numpy(data.texts[data.offsets[rows]].astype(np.int64))

    def __len__(self) -> int:
        return len(self.images)


class _Run:
    """A model under training, without schedules of the learning rate."""

    def __init__(self, config: TrialConfig, store: Store) -> None:
        with global_seed(config.seed, torch.device("cpu")):
            self._model = ClipModel(config.model, store.meta).to(memory_format=torch.channels_last).train()
        self._scale = LogitScale(config.temperature)
        learned = self._scale.learned
        self._fixed = None if learned else 1.0 / scheduled_tau(config.temperature, Fraction(0))
        self._optimizer = make_optimizer(self._model, self._scale.nu, config)
        set_lr(self._optimizer, 1.0)

    @property
    def beta(self) -> float:
        return float(torch.as_tensor(self._scale.beta(self._fixed)).detach())

    def step(self, pairs: _Pairs, rows: npt.NDArray[np.int64], beta: float | None = None) -> None:
        index = torch.from_numpy(rows)
        beta_now = self._scale.beta(self._fixed if beta is None else beta)
        loss = clip_loss(*self._features(pairs.images[index], pairs.tokens[index]), beta_now)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        self._optimizer.step()
        if beta is None:
            self._scale.clamp()

    @torch.no_grad()
    def features(self, pairs: _Pairs, *, as_trained: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
        """By running statistics; or by those of each block, as in training, where ten steps cannot move the former."""
        self._model.train(as_trained)
        starts = range(0, len(pairs), _BLOCK)
        parts = [self._features(pairs.images[i : i + _BLOCK], pairs.tokens[i : i + _BLOCK]) for i in starts]
        self._model.train()
        return torch.cat([x for x, _ in parts]), torch.cat([y for _, y in parts])

    def _features(self, images: torch.Tensor, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self._model.encode_image(images), self._model.encode_text(tokens)


def _batches(pairs: _Pairs, batch: int, seed: int, epoch: int) -> Iterator[npt.NDArray[np.int64]]:
    order = torch.randperm(len(pairs), generator=generator(seed, "order", epoch)).numpy()
    for start in range(0, len(pairs) - batch + 1, batch):
        yield order[start : start + batch]
