"""Models of one kind whose weights are stacked, so that their gradients are computed together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.batchnorm import _BatchNorm

from gaptune.trial.encoder import DualEncoder
from gaptune.trial.step import contrast


class Inputs(NamedTuple):
    """What K models compute with in one step, on their device.

    Attributes:
        images: Inputs of the image encoders, n for all, or of shape (K, n, …) n for each.
        texts: Inputs of the text encoders, as the images.
        betas: Logit scales, shape (K,).
        kept: Fraction of its own feature that each entry keeps in a swap, shape (K, n, d); None if nothing is swapped.
        renormalize: Whether swapped features are normalized again, shape (K,) or the same for all.
    """

    images: Tensor
    texts: Tensor
    betas: Tensor
    kept: Tensor | None
    renormalize: Tensor | bool


class Stack:
    """Models whose weights, and statistics of batch norm, become views of tensors that hold those of all.

    What is computed for a model depends on no other one, but how it is rounded depends on how many there are.

    Args:
        models: Of one configuration, in their mode for training.
        shared: Whether all see the same batches.
        bf16: Whether they compute in bf16.
    """

    def __init__(self, models: Sequence[DualEncoder], *, shared: bool, bf16: bool = False) -> None:
        self._device = next(models[0].parameters()).device
        self._shared = shared
        self._bf16 = bf16
        self._embed = _Embed(models[0])
        self._trained: dict[str, Tensor] = {}
        self._fixed: dict[str, Tensor] = {}
        self._weights: dict[str, list[Tensor]] = {}
        tensors = [{**dict(each.named_parameters()), **dict(each.named_buffers())} for each in models]
        statistics = _statistics(models[0])
        for name, first in tensors[0].items():
            each = [named[name] for named in tensors]
            if not first.requires_grad and name not in statistics and all(torch.equal(first, other) for other in each):
                continue  # the same for all, and stays so
            whole = torch.stack([tensor.detach() for tensor in each]).contiguous()
            for tensor, part in zip(each, whole, strict=True):
                tensor.data = part
            if first.requires_grad:
                self._trained[f"model.{name}"] = whole
                self._weights[f"model.{name}"] = each
            else:
                self._fixed[f"model.{name}"] = whole

    def backward(self, inputs: Inputs) -> Tensor:
        """Gives all weights their gradients, and what the logit scales depend on its own; returns the losses.

        Returns:
            Shape (K,).
        """
        each = None if self._shared else 0
        axes = (
            0,
            0,
            0,
            each,
            each,
            None if inputs.kept is None else 0,
            0 if torch.is_tensor(inputs.renormalize) else None,
        )
        of_all = vmap(grad_and_value(self._loss, argnums=(0, 1)), in_dims=axes)
        # Attention by plain products: vmap has no rule for the other kinds, and would take the models one by one.
        with sdpa_kernel(SDPBackend.MATH):
            (gradients, by_beta), losses = of_all(
                self._trained,
                inputs.betas.detach(),
                self._fixed,
                inputs.images,
                inputs.texts,
                inputs.kept,
                inputs.renormalize,
            )
        for name, weights in self._weights.items():
            for weight, gradient in zip(weights, gradients[name].contiguous(), strict=True):
                weight.grad = gradient
        if inputs.betas.requires_grad:
            inputs.betas.backward(by_beta)  # type: ignore[no-untyped-call]  # torch leaves it untyped
        detached: Tensor = losses.detach()
        return detached

    def _loss(
        self,
        trained: dict[str, Tensor],
        beta: Tensor,
        fixed: dict[str, Tensor],
        images: Tensor,
        texts: Tensor,
        kept: Tensor | None,
        renormalize: Tensor | bool,
    ) -> Tensor:
        """The loss of one model."""
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._bf16):
            x, y = functional_call(self._embed, {**trained, **fixed}, (images, texts))
        return contrast(x, y, beta, kept, renormalize=renormalize)


class _Embed(nn.Module):
    """The embeddings of a model, as the method that torch calls."""

    def __init__(self, model: DualEncoder) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor, texts: Tensor) -> tuple[Tensor, Tensor]:
        return self.model.embed(images, texts)


def _statistics(model: nn.Module) -> set[str]:
    """The names of buffers that training changes: those of batch norms that are not frozen."""
    return {
        f"{path}.{name}"
        for path, module in model.named_modules()
        if isinstance(module, _BatchNorm) and module.training
        for name, _ in module.named_buffers(recurse=False)
    }
