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
from gaptune.trial.optim import has_decay
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


class Gradients(NamedTuple):
    """What a step of K models leads to.

    Attributes:
        losses: Shape (K,).
        weights: Gradients of ``Stack.weights``, of its shape.
        betas: Gradients of the logit scales, shape (K,).
    """

    losses: Tensor
    weights: Tensor
    betas: Tensor


class Stack:
    """Models whose weights, and statistics of batch norm, become views of tensors that hold those of all.

    What is computed for a model depends on no other one, but how it is rounded depends on how many there are.

    Args:
        models: Of one configuration, in their mode for training.
        shared: Whether all see the same batches.
        bf16: Whether they compute in bf16.

    Attributes:
        weights: All that is trained, shape (K, P); first what has weight decay.
        decayed: How many of the P numbers have weight decay.
    """

    def __init__(self, models: Sequence[DualEncoder], *, shared: bool, bf16: bool = False) -> None:
        self._device = next(models[0].parameters()).device
        self._shared = shared
        self._bf16 = bf16
        self._embed = _Embed(models[0])
        self._parameters = [dict(each.named_parameters()) for each in models]
        trained = {name: each for name, each in self._parameters[0].items() if each.requires_grad}
        order = sorted(trained, key=lambda name: not has_decay(name, trained[name]))
        self._shapes = {name: trained[name].shape for name in order}
        self.decayed = sum(each.numel() for name, each in trained.items() if has_decay(name, each))
        flat = [torch.cat([each[name].detach().reshape(-1) for name in order]) for each in self._parameters]
        self.weights = torch.stack(flat)
        for number, parameters in enumerate(self._parameters):
            for name, view in self.views(self.weights[number]).items():
                parameters[name].data = view
        self._trained = {f"model.{name}": view for name, view in self.views(self.weights).items()}
        self._fixed = self._stacked_rest(models)

    def views(self, numbers: Tensor) -> dict[str, Tensor]:
        """Tensors of shape (…, P) by the weights to which their parts belong, in the shapes of these."""
        parts = torch.split(numbers, [shape.numel() for shape in self._shapes.values()], dim=-1)
        named = zip(self._shapes.items(), parts, strict=True)
        return {name: part.view(*part.shape[:-1], *shape) for (name, shape), part in named}

    def parameters(self, number: int) -> dict[str, nn.Parameter]:
        """What is trained of a model."""
        return {name: self._parameters[number][name] for name in self._shapes}

    def _stacked_rest(self, models: Sequence[DualEncoder]) -> dict[str, Tensor]:
        """What is not trained, but changes or differs between the models."""
        tensors = [{**own, **dict(model.named_buffers())} for own, model in zip(self._parameters, models, strict=True)]
        statistics = _statistics(models[0])
        rest = {}
        for name in tensors[0].keys() - self._shapes.keys():
            each = [named[name] for named in tensors]
            if name in statistics or not all(torch.equal(each[0], other) for other in each):
                rest[f"model.{name}"] = whole = torch.stack([tensor.detach() for tensor in each]).contiguous()
                for tensor, part in zip(each, whole, strict=True):
                    tensor.data = part
        return rest

    def gradients(self, inputs: Inputs) -> Gradients:
        """Losses and gradients of all models in a step."""
        each = None if self._shared else 0
        images = inputs.images.contiguous()  # on a card, batch norm copies channels last by what vmap has no rule for
        kept, again = (0 if torch.is_tensor(given) else None for given in (inputs.kept, inputs.renormalize))
        of_all = vmap(grad_and_value(self._loss, argnums=(0, 1)), in_dims=(0, 0, 0, each, each, kept, again))
        # Attention by plain products: vmap has no rule for the other kinds, and would take the models one by one.
        with sdpa_kernel(SDPBackend.MATH):
            (weights, betas), losses = of_all(
                self._trained, inputs.betas, self._fixed, images, inputs.texts, inputs.kept, inputs.renormalize
            )
        flat = torch.cat([weights[name].flatten(1) for name in self._trained], dim=1)
        return Gradients(losses.detach(), flat.detach(), betas.detach())

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
