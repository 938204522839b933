"""The gradient of a whole batch's contrast, with the activations of a part of it in memory (GradCache)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from gaptune.trial.feed import Batch

Embed = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def backward_in_chunks(
    embed: Embed, loss_of: Callable[[Tensor, Tensor], Tensor], model: nn.Module, batch: Batch, size: int
) -> Tensor:
    """Adds the gradient of a batch's loss to all weights, chunk by chunk (Gao et al. 2021, arXiv 2101.06983).

    All features are computed without a gradient first. The loss's gradient with respect to them is that of the whole
    batch. Each chunk is then embedded again, with the same random draws, and passes its part on to the weights.

    A batch norm sees a chunk in place of the batch; its running statistics change once for each chunk.

    Args:
        embed: Features of images and texts, both of shape (n, d).
        loss_of: The loss from both features.
        model: The model.
        batch: Inputs of the whole batch.
        size: Pairs of a chunk.

    Returns:
        The loss, detached.
    """
    device = batch.images.device
    chunks = list(zip(torch.split(batch.images, size), torch.split(batch.texts, size), strict=True))
    states, parts = [], []
    with torch.no_grad(), _statistics_kept(model):
        for chunk in chunks:
            states.append(_random_state(device))
            parts.append(embed(*chunk))
    features = [torch.cat(each).requires_grad_() for each in zip(*parts, strict=True)]
    loss = loss_of(*features)
    loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    gradients = zip(*(torch.split(each.grad, size) for each in features if each.grad is not None), strict=True)
    for chunk, state, wanted in zip(chunks, states, gradients, strict=True):
        _set_random_state(device, state)
        pairs = [(out, gradient) for out, gradient in zip(embed(*chunk), wanted, strict=True) if out.requires_grad]
        torch.autograd.backward([out for out, _ in pairs], [gradient for _, gradient in pairs])
    return loss.detach()


@contextmanager
def _statistics_kept(model: nn.Module) -> Iterator[None]:
    """A context in which batch norms use the statistics of what they see, and do not remember them."""
    norms = [each for each in model.modules() if isinstance(each, _BatchNorm) and each.training]
    remembering = [each.track_running_stats for each in norms]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm, before in zip(norms, remembering, strict=True):
            norm.track_running_stats = before


def _random_state(device: torch.device) -> tuple[Tensor, Tensor | None]:
    return torch.get_rng_state(), torch.cuda.get_rng_state(device) if device.type == "cuda" else None


def _set_random_state(device: torch.device, state: tuple[Tensor, Tensor | None]) -> None:
    torch.set_rng_state(state[0])
    if state[1] is not None:
        torch.cuda.set_rng_state(state[1], device)
