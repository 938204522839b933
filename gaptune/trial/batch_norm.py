"""Batch norm over the batch of all ranks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from gaptune.config import TrainingConfig
from gaptune.errors import UserError
from gaptune.trial.encoder import DualEncoder
from gaptune.trial.ranks import Ranks


def synchronize(model: DualEncoder, training: TrainingConfig, device: torch.device, ranks: Ranks) -> None:
    """Has the batch norms of a model use the statistics of the whole batch; names of weights stay as they are.

    On cards by torch's ``SyncBatchNorm``, which has no form for CPUs; there by ``SummedNorm``.

    Args:
        model: The model, in the mode for training. A frozen tower, whose statistics do not change, stays as it is.
        training: Whether it trains in parts of a batch.
        device: Where it will train.
        ranks: The processes that train it.

    Raises:
        UserError: Its statistics would depend on the number of ranks.
    """
    norms = [name for name, each in model.tower.named_modules() if isinstance(each, _BatchNorm) and each.training]
    if ranks.size == 1 or not norms:
        return
    if training.micro_batch is not None and training.micro_batch < training.batch_size:
        raise UserError(
            f"training.micro_batch: {model.name} has batch norm, whose statistics would be those of the parts of each "
            "rank; leave micro_batch out, or train the model on one"
        )
    tower: Any = model.tower
    for name in norms:
        norm = tower.get_submodule(name)
        tower.set_submodule(name, _on_card(norm) if device.type == "cuda" else _on_cpu(norm, ranks, model.name))


def _on_card(norm: nn.Module) -> nn.Module:
    from timm.layers import convert_sync_batchnorm  # torch's own would drop the activations of timm's batch norms

    converted: nn.Module = convert_sync_batchnorm(norm)
    return converted


def _on_cpu(norm: _BatchNorm, ranks: Ranks, model: str) -> nn.Module:
    if type(norm) not in (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d) or norm.momentum is None:
        raise UserError(f"{model} has a batch norm ({type(norm).__name__}) that several ranks cannot train on CPUs")
    return SummedNorm(norm, ranks)


class SummedNorm(_BatchNorm):
    """Batch norm whose means and variances are sums over the ranks, each with its gradient.

    Args:
        norm: The batch norm that it takes the place of, and whose weights it has.
        ranks: The ranks.
    """

    def __init__(self, norm: _BatchNorm, ranks: Ranks) -> None:
        super().__init__(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
        self._parameters.update(norm._parameters)
        self._buffers.update(norm._buffers)
        self._ranks = ranks
        # Here, not as a decorator: torch imports its whole compiler for it, which takes seconds.
        self._normalized: Callable[[Tensor], Tensor] = torch.compiler.disable(self._normalize)  # type: ignore[no-untyped-call]

    def _check_input_dim(self, input: Tensor) -> None:
        """Takes any number of dimensions, of which the second is the channels."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalized numbers, shape (n, channels, …), by the statistics of all ranks in training."""
        return self._normalized(input) if self.training else super().forward(input)

    def _normalize(self, input: Tensor) -> Tensor:
        single, others = input.float() if input.dtype == torch.bfloat16 else input, [0, *range(2, input.ndim)]
        shape = [1, -1, *[1] * (input.ndim - 2)]
        numbers = single.new_tensor([single.numel() // self.num_features])
        sums = self._ranks.summed(torch.cat([single.sum(others), numbers]))  # one call for both
        mean, count = sums[:-1] / sums[-1], sums[-1].detach()
        centered = single - mean.view(shape)
        variance = self._ranks.summed((centered * centered).sum(others)) / count
        self._remember(mean.detach(), (variance * count / (count - 1)).detach())
        scale = (variance + self.eps).rsqrt()
        normalized = centered * (scale * self.weight if self.affine else scale).view(shape)
        return (normalized + self.bias.view(shape) if self.affine else normalized).to(input.dtype)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        if self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None:
            assert self.momentum is not None  # checked before
            self.num_batches_tracked.add_(1)
            self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
            self.running_var.lerp_(variance.to(self.running_var.dtype), self.momentum)
