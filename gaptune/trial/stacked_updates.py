"""The updates of several trainings by a few operations: AdamW over all of their weights at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from gaptune.config import OptimizerConfig, TemperatureConfig
from gaptune.trial.feed import moved
from gaptune.trial.loop import Training
from gaptune.trial.loss import NonFinite
from gaptune.trial.optim import set_lr
from gaptune.trial.plan import StepPlan
from gaptune.trial.stack import Gradients, Stack
from gaptune.trial.step import Taken, may_update, non_finite
from gaptune.trial.temperature import beta_of


class _Moments(NamedTuple):
    """AdamW's running means of gradients and of their squares, shape (K, P)."""

    mean: Tensor
    square: Tensor

    def direction(self, gradient: Tensor, params: OptimizerConfig, correction: Tensor) -> Tensor:
        """Where the weights go, for a learning rate of 1, before the correction of the mean."""
        self.mean.lerp_(gradient, 1.0 - params.beta1)
        self.square.mul_(params.beta2).addcmul_(gradient, gradient, value=1.0 - params.beta2)
        return self.mean / (self.square.sqrt().div_(correction).add_(params.eps))


class StackedUpdates:
    """Takes the steps of several trainings, as ``Updates`` does those of one.

    The optimizers of the trainings hold views of what is kept here, so that they can be saved and resumed. A training
    with a loss or a gradient that is not finite is over: then it does not matter what its weights become.

    Args:
        trials: The trainings, of one ``lanes_key``.
        stack: Their models.
    """

    def __init__(self, trials: Sequence[Training], stack: Stack) -> None:
        self._trials = trials
        self._stack = stack
        self._params = trials[0].config.optimizer
        self._device = trials[0].device
        scales = [trial.scale for trial in trials]
        self._nus = torch.stack([scale.nu.detach() for scale in scales])[:, None]
        for scale, nu in zip(scales, self._nus, strict=True):
            scale.nu.data = nu[0]
        self._nus.requires_grad_()
        self._bounds = self._on_device([scale.bounds() for scale in scales]).T[..., None]
        self._learned = self._by_parameterization()
        self._weights = _Moments(torch.zeros_like(stack.weights), torch.zeros_like(stack.weights))
        self._scales = _Moments(torch.zeros_like(self._nus), torch.zeros_like(self._nus))
        self._updates = torch.zeros(len(trials), device=self._device)  # as AdamW counts them
        self._share_state()
        self._done = [int(each) for each in self._updates.tolist()]
        self._forget()

    def _by_parameterization(self) -> list[tuple[TemperatureConfig, Tensor]]:
        """The trainings that learn their temperature, by how: ``beta_of`` computes that of several at once."""
        kinds: dict[tuple[str, float], list[int]] = {}
        for number, trial in enumerate(self._trials):
            if trial.scale.learned:
                config = trial.config.temperature
                kinds.setdefault((config.parameterization, config.scale), []).append(number)
        return [
            (self._trials[which[0]].config.temperature, torch.tensor(which, device=self._device))
            for which in kinds.values()
        ]

    def _share_state(self) -> None:
        """Takes over the state of the optimizers, and gives them views of it."""
        for number, trial in enumerate(self._trials):
            means, squares = (self._stack.views(each[number]) for each in self._weights)
            owners = [(each, means[name], squares[name]) for name, each in self._stack.parameters(number).items()]
            if trial.scale.learned:
                owners.append((trial.scale.nu, self._scales.mean[number, 0], self._scales.square[number, 0]))
            state = trial.optimizer.state
            for parameter, mean, square in owners:
                if parameter in state:
                    mean.copy_(state[parameter]["exp_avg"])
                    square.copy_(state[parameter]["exp_avg_sq"])
                    self._updates[number] = state[parameter]["step"]
                state[parameter] = {"step": self._updates[number], "exp_avg": mean, "exp_avg_sq": square}

    def _forget(self) -> None:
        number = len(self._trials)
        self._steps, self._swapped = [0] * number, [0] * number
        self._losses = torch.zeros(number, dtype=torch.float64, device=self._device)
        self._bad = torch.full((number, 3), math.nan, dtype=torch.float64, device=self._device)

    def betas(self, plans: Sequence[StepPlan | None]) -> Tensor:
        """The logit scales of a step, shape (K,); there is a gradient where they are learned."""
        scheduled = [1.0 if plan is None or plan.beta is None else plan.beta for plan in plans]
        betas = self._on_device(scheduled)
        for config, which in self._learned:
            betas = betas.index_copy(0, which, beta_of(self._nus[which, 0], config))
        return betas

    @torch.no_grad()
    def apply(self, plans: Sequence[StepPlan | None], betas: Tensor, found: Gradients) -> None:
        """Updates all weights.

        Args:
            plans: The step of each; None where the training is over and nothing matters any more.
            betas: The logit scales, as ``betas`` gave them.
            found: Losses and gradients of the step.
        """
        by_weights, by_nus = found.weights, self._by_nus(betas, found.betas)
        norms = torch.hypot(torch.linalg.vector_norm(by_weights, dim=1), by_nus[:, 0])
        self._note(plans, found.losses, norms)
        if self._params.clip_norm is not None:  # as clip_grads_with_norm_ does it
            scales = (self._params.clip_norm / (norms + 1e-6)).clamp(max=1.0)[:, None]
            by_weights, by_nus = by_weights * scales, by_nus * scales
        factors = self._on_device([*map(self._factors, range(len(plans)), plans)])
        decays, rates, nu_rates, corrections = factors.T[..., None]
        weights = self._stack.weights
        weights[:, : self._stack.decayed] *= decays
        weights -= self._weights.direction(by_weights, self._params, corrections).mul_(rates)
        self._nus -= self._scales.direction(by_nus, self._params, corrections).mul_(nu_rates)
        self._nus.clamp_(*self._bounds)

    def failed(self) -> dict[int, NonFinite]:
        """The trainings with a loss or a gradient that was not finite, by number; waits for a card."""
        errors = {number: non_finite(*each) for number, each in enumerate(self._bad.tolist())}
        return {number: error for number, error in errors.items() if error is not None}

    def settle(self) -> None:
        """Hands over to each training what its steps have led to; waits for a card."""
        self._updates.copy_(torch.tensor(self._done))
        for trial, steps, loss, swapped in zip(
            self._trials, self._steps, self._losses.tolist(), self._swapped, strict=True
        ):
            trial.updates.include(Taken(steps, loss, swapped))
        self._forget()

    def _factors(self, number: int, plan: StepPlan | None) -> tuple[float, float, float, float]:
        """What decays weights, learning rates with the correction of the mean, and the correction of the square."""
        if plan is None:
            return 1.0, 0.0, 0.0, 1.0
        trial = self._trials[number]
        self._done[number] += 1
        set_lr(trial.optimizer, plan.lr_factor)
        decayed, _, *nu = trial.optimizer.param_groups
        first, second = (1.0 - beta ** self._done[number] for beta in (self._params.beta1, self._params.beta2))
        nu_rate = nu[0]["lr"] / first if nu else 0.0
        return 1.0 - decayed["lr"] * decayed["weight_decay"], decayed["lr"] / first, nu_rate, math.sqrt(second)

    def _by_nus(self, betas: Tensor, by_betas: Tensor) -> Tensor:
        """Gradients of ν, shape (K, 1)."""
        if not betas.requires_grad:
            return torch.zeros_like(self._nus)
        (gradient,) = torch.autograd.grad(betas, self._nus, by_betas)
        return gradient

    def _note(self, plans: Sequence[StepPlan | None], losses: Tensor, norms: Tensor) -> None:
        """Adds up the losses, and keeps the first step of each whose update may not be made."""
        self._losses += losses
        steps = [-1 if plan is None else plan.step for plan in plans]
        found = torch.stack([moved(torch.tensor(steps), self._device).double(), losses.double(), norms.double()], dim=1)
        good = may_update(losses, norms, self._params.clip_norm) | ~self._bad[:, 0].isnan()
        self._bad = torch.where(good[:, None], self._bad, found)
        for number, plan in enumerate(plans):
            self._steps[number] += plan is not None
            self._swapped[number] += plan is not None and plan.kept is not None

    def _on_device(self, numbers: Sequence[float] | Sequence[tuple[float, ...]]) -> Tensor:
        return moved(torch.tensor(numbers, dtype=self._nus.dtype), self._device)
