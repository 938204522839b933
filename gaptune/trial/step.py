"""One update of the weights: the only place where a loss becomes a gradient."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.optim import AdamW

from gaptune.config import TrialConfig
from gaptune.trial.encoder import DualEncoder
from gaptune.trial.feed import Batch, moved
from gaptune.trial.loss import NonFinite, clip_loss, clip_loss_of_part
from gaptune.trial.micro_batch import backward_in_chunks
from gaptune.trial.optim import clip_gradients, gradients, set_lr
from gaptune.trial.plan import StepPlan
from gaptune.trial.ranks import ALONE, Ranks
from gaptune.trial.streams import global_seed
from gaptune.trial.swap import swap
from gaptune.trial.temperature import LogitScale

_LARGEST = math.sqrt(torch.finfo(torch.float32).max)


def contrast(
    x: Tensor, y: Tensor, beta: Tensor | float, kept: Tensor | None = None, *, renormalize: bool | Tensor = False
) -> Tensor:
    """The loss of a batch from its features, which may be swapped first.

    Args:
        x: Image features, shape (n, d).
        y: Text features, shape (n, d).
        beta: Logit scale.
        kept: Fraction of its own feature that each entry keeps, shape (n, d); None to swap nothing.
        renormalize: Whether swapped features are normalized again, a boolean scalar where it is data.
    """
    if kept is not None:
        x, y = swap(x, y, kept, renormalize=renormalize)
    return clip_loss(x, y, beta)


def may_update(loss: Tensor, norm: Tensor, clip_norm: float | None) -> Tensor:
    """Whether weights may be updated: loss and gradient, and what AdamW makes of it, are finite.

    Args:
        loss: The loss, or several.
        norm: Norm of its gradient before clipping, of the same shape.
        clip_norm: What the gradient is clipped to; None for no clipping.

    Returns:
        Boolean, of that shape.
    """
    left = norm.clamp(max=clip_norm or math.inf)
    return loss.isfinite() & norm.isfinite() & (left < _LARGEST)  # the second moment is the square of what is left


def non_finite(step: float, loss: float, norm: float) -> NonFinite | None:
    """The error for a step whose update may not be made; None if there is none, which is a NaN for the step."""
    if math.isnan(step):
        return None
    if not math.isfinite(loss):
        return NonFinite(f"loss {loss} at step {step:.0f}")
    return NonFinite(f"the gradient's norm is {norm if math.isnan(norm) else math.inf} at step {step:.0f}")


class Taken(NamedTuple):
    """What some steps have led to.

    Attributes:
        steps: Number of steps.
        loss: Sum of their losses.
        swapped: Number of steps with swapped features.
    """

    steps: int
    loss: float
    swapped: int


class Updates:
    """Takes the steps of a training.

    A loss or a gradient that is not finite never reaches the weights: AdamW leaves out that update and all that follow.
    Whether it happened is asked of a card only when its results are read; on a CPU, where asking costs nothing, after
    each step.

    Args:
        model: The model.
        scale: The temperature.
        optimizer: The optimizer of both.
        config: Configuration of the trial.
        ranks: The processes that train the model. Each has the gradient of what its pairs add to the loss; all take
            the same step by the sum.
    """

    def __init__(
        self, model: DualEncoder, scale: LogitScale, optimizer: AdamW, config: TrialConfig, ranks: Ranks = ALONE
    ) -> None:
        self._ranks = ranks
        self._model = model
        self._scale = scale
        self._optimizer = optimizer
        self._config = config
        self._device = scale.nu.device
        self._forget()

    def _forget(self) -> None:
        self._steps = self._swapped = 0
        self._loss = torch.zeros((), dtype=torch.float64, device=self._device)
        self._bad = torch.full((3,), math.nan, dtype=torch.float64, device=self._device)  # its step, loss and norm
        self._skip = torch.zeros((), device=self._device)

    def take(self, plan: StepPlan, batch: Batch) -> None:
        """Takes a step.

        Raises:
            NonFinite: On a CPU, the loss or the gradient is not finite.
        """
        kept = None if plan.kept is None else moved(plan.kept, self._device)
        with global_seed(plan.dropout, self._device):
            loss = self._backward(batch, self._scale.beta(plan.beta), kept)
        self._ranks.add([loss, *gradients(self._optimizer)])
        self.apply(plan, loss)

    def apply(self, plan: StepPlan, loss: Tensor) -> None:
        """Updates the weights by the gradients that they have.

        Args:
            plan: The step.
            loss: Its loss, a scalar on the device.

        Raises:
            NonFinite: On a CPU, the loss or a gradient is not finite.
        """
        set_lr(self._optimizer, plan.lr_factor)
        norm = clip_gradients(self._optimizer, self._config.optimizer.clip_norm)
        self._note(plan.step, loss, norm)
        self._optimizer.found_inf = self._skip  # type: ignore[attr-defined]  # fused AdamW looks for it
        self._optimizer.grad_scale = None  # type: ignore[attr-defined]  # and for this beside it
        self._optimizer.step()
        self._scale.clamp()
        self._steps += 1
        self._swapped += plan.kept is not None
        if self._device.type == "cpu":
            self._check()

    def read(self) -> Taken:
        """What the steps since the last call have led to; waits for a card.

        Raises:
            NonFinite: A loss or a gradient was not finite.
        """
        self._check()
        taken = Taken(self._steps, float(self._loss), self._swapped)
        self._forget()
        return taken

    def include(self, taken: Taken) -> None:
        """Counts steps that were taken elsewhere."""
        self._steps += taken.steps
        self._loss += taken.loss
        self._swapped += taken.swapped

    def _backward(self, batch: Batch, beta: Tensor | float, kept: Tensor | None) -> Tensor:
        """Adds the gradient of what this rank's pairs add to the loss to all weights; returns that part of the loss."""
        micro_batch = self._config.training.micro_batch

        def loss_of(x: Tensor, y: Tensor) -> Tensor:
            return self._part_of_loss(x, y, beta, kept)

        if micro_batch is not None and micro_batch < len(batch.images):
            self._optimizer.zero_grad(set_to_none=True)
            return backward_in_chunks(self._embed, loss_of, self._model, batch, micro_batch)
        loss = loss_of(*self._embed(batch.images, batch.texts))
        self._optimizer.zero_grad(set_to_none=True)  # only now: the new gradients take the memory of the old ones
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        return loss.detach()

    def _part_of_loss(self, x: Tensor, y: Tensor, beta: Tensor | float, kept: Tensor | None) -> Tensor:
        renormalize = self._config.swap.renormalize
        if self._ranks.size == 1:
            return contrast(x, y, beta, kept, renormalize=renormalize)
        if kept is not None:  # a swap leaves each pair to itself
            x, y = swap(x, y, kept, renormalize=renormalize)
        n = self._config.training.batch_size
        everybody = self._ranks.gathered(torch.cat([x, y], dim=1), n).chunk(2, dim=1)
        return clip_loss_of_part(x, y, beta, (everybody[0], everybody[1]), self._ranks.rows(n).start)

    def _embed(self, images: Tensor, texts: Tensor) -> tuple[Tensor, Tensor]:
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._config.training.precision == "bf16"):
            return self._model.embed_images(images), self._model.embed_texts(texts)

    def _note(self, step: int, loss: Tensor, norm: Tensor) -> None:
        """Adds up the loss, and keeps the first step whose update must not be made; without a wait for the device."""
        self._loss += loss
        good = may_update(loss, norm, self._config.optimizer.clip_norm)
        found = torch.stack([torch.full_like(self._loss, step), loss.double(), norm.double()])
        self._bad = torch.where(good | (self._skip > 0), self._bad, found)
        self._skip = torch.where(good, self._skip, 1.0)

    def _check(self) -> None:
        if error := non_finite(*self._bad.tolist()):
            raise error
