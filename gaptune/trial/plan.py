"""What a training step will do, decided on the CPU before it runs."""

from __future__ import annotations

from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gaptune.config import TrialConfig
from gaptune.data import Split
from gaptune.trial.encoder import Drawn, DualEncoder
from gaptune.trial.optim import lr_factor
from gaptune.trial.order import epoch_order
from gaptune.trial.ranks import ALONE, Ranks
from gaptune.trial.streams import generator
from gaptune.trial.swap import draw_fractions, swaps_at
from gaptune.trial.temperature import scheduled_tau

Rows = npt.NDArray[np.int64]


class StepPlan(NamedTuple):
    """One step of a training; of several ranks, the part of it that is this rank's.

    Attributes:
        step: Counted from 0.
        rows: Images, as rows of the split, shape (n,).
        captions: The caption of each, as rows of ``Split.texts``, shape (n,).
        drawn: What is drawn for the inputs.
        lr_factor: Fraction of the highest learning rate.
        beta: The logit scale by its schedule; None where it is learned.
        kept: Fraction of its own feature that each entry keeps, shape (n, d); None where nothing is swapped.
        dropout: Seed of what the towers draw themselves, another one for each rank.
    """

    step: int
    rows: Rows
    captions: Rows
    drawn: Drawn
    lr_factor: float
    beta: float | None
    kept: Tensor | None
    dropout: int


class Planner:
    """Plans the steps of a training.

    Every draw is determined by the seed of the trial and a position, the step or its epoch. So trials of one seed see
    the same batches whatever their other parameters, and a resumed training sees the same ones as one that ran through.
    Several ranks draw for the whole batch, and each takes its share: batches do not depend on their number.

    Args:
        config: Configuration of the trial.
        model: The model, which draws for its own inputs.
        split: The training pairs.
        ranks: The processes that train the model.

    Attributes:
        per_epoch: Steps of an epoch.
        steps: Steps in all.
    """

    def __init__(self, config: TrialConfig, model: DualEncoder, split: Split, ranks: Ranks = ALONE) -> None:
        self._config = config
        self._model = model
        self._split = split
        self._batch = config.training.batch_size
        self._mine = ranks.rows(self._batch)
        self._dropout = f"dropout of rank {ranks.rank}" if ranks.rank else "dropout"
        self.per_epoch = len(split) // self._batch
        self.steps = self.per_epoch * config.training.epochs
        self._epoch: tuple[int, Rows, npt.NDArray[Any]] | None = None

    def plan(self, step: int) -> StepPlan:
        """Plans a step."""
        config = self._config
        epoch, place = divmod(step, self.per_epoch)
        drawn_rows, which = self._pairs_of(epoch)
        start = place * self._batch
        batch = slice(start + self._mine.start, start + self._mine.stop)
        rows = drawn_rows[batch]
        return StepPlan(
            step,
            rows,
            chosen_captions(self._split, rows, which[batch]),
            self._model.draw(self._batch, config.augment, config.seed, step).part(self._mine),
            self.lr_factor(step),
            self._beta(step),
            self._kept(step),
            self._stream(self._dropout, step).initial_seed(),
        )

    def replan(self, plan: StepPlan) -> StepPlan:
        """The same step in this trial: the batch is the same, temperature and swap are its own.

        Args:
            plan: Step of a trial that differs from this one in temperature, swap, learning rate or weight decay only.
        """
        return plan._replace(beta=self._beta(plan.step), kept=self._kept(plan.step))

    def lr_factor(self, step: int) -> float:
        """Fraction of the highest learning rate in a step."""
        return lr_factor(step, self.steps, self._config.optimizer.warmup)

    def _beta(self, step: int) -> float | None:
        temperature = self._config.temperature
        if temperature.schedule == "learned":
            return None
        return 1.0 / scheduled_tau(temperature, Fraction(step, self.steps))

    def _kept(self, step: int) -> Tensor | None:
        config = self._config
        if not swaps_at(config.swap, config.seed, step, self.steps):
            return None
        return draw_fractions((self._batch, self._model.embed_dim), config.swap, config.seed, step)[self._mine]

    def _pairs_of(self, epoch: int) -> tuple[Rows, npt.NDArray[Any]]:
        """The rows of an epoch, and a number in [0, 1) for each that picks its caption."""
        if self._epoch is None or self._epoch[0] != epoch:
            rows = epoch_order(self._split, self._stream("order", epoch), self._batch)
            which = torch.rand(len(self._split), generator=self._stream("caption", epoch)).numpy()
            self._epoch = epoch, rows, which
        return self._epoch[1:]

    def _stream(self, use: str, position: int) -> torch.Generator:
        return generator(self._config.seed, use, position)


def chosen_captions(split: Split, rows: Rows, which: npt.NDArray[Any]) -> Rows:
    """The captions of some images, as rows of ``Split.texts``.

    Args:
        split: The pairs.
        rows: Rows of the images, shape (n,).
        which: A number in [0, 1) for each, which picks one of its captions, shape (n,).
    """
    first = split.offsets[rows]
    chosen: Rows = first + (which * (split.offsets[rows + 1] - first)).astype(np.int64)
    return chosen
