"""Modality swap: entries exchanged or mixed between image and text features (Yaras et al. 2024, section 4)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from gaptune.config import SwapConfig
from gaptune.text.numbers import exact
from gaptune.trial.streams import generator


def swaps_at(config: SwapConfig, seed: int, step: int, steps: int) -> bool:
    """Whether features are swapped in a step: a coin of its own for each step within the window.

    Args:
        config: Kind, probability and window.
        seed: Seed of the trial.
        step: Counted from 0.
        steps: Steps in all.
    """
    if config.kind == "none" or not exact(config.start) * steps <= step < exact(config.end) * steps:
        return False
    return float(torch.rand((), generator=generator(seed, "swap?", step))) < config.probability


def draw_fractions(shape: tuple[int, int], config: SwapConfig, seed: int, step: int) -> Tensor:
    """Draws how much of its own feature each entry keeps.

    ``hard``: 1 or 0 with equal probability, so that half of the entries are exchanged. ``soft``: λ ~ U[0, 1].

    Args:
        shape: Shape of the features, (n, d).
        config: Kind.
        seed: Seed of the trial.
        step: Decides, with the seed, what is drawn.

    Returns:
        Float32, of that shape, on the CPU.
    """
    drawn = torch.rand(shape, generator=generator(seed, "swap", step))
    return (drawn < 0.5).to(drawn.dtype) if config.kind == "hard" else drawn


def swap(x: Tensor, y: Tensor, kept: Tensor, *, renormalize: bool | Tensor) -> tuple[Tensor, Tensor]:
    """Swaps features: x becomes λx + (1-λ)y and y becomes λy + (1-λ)x; their sum stays what it was.

    Args:
        x: Image features, shape (n, d).
        y: Text features, shape (n, d).
        kept: λ, the fraction of its own feature that each entry keeps, shape (n, d); 1 leaves it exactly as it is.
        renormalize: Whether the results are normalized to length 1 again; where it is data, a boolean scalar.

    Returns:
        The swapped features.
    """
    kept = kept.to(x.dtype)
    swapped = kept * x + (1 - kept) * y, kept * y + (1 - kept) * x
    if renormalize is False:
        return swapped
    normalized = F.normalize(swapped[0], dim=1), F.normalize(swapped[1], dim=1)
    if renormalize is True:
        return normalized
    return torch.where(renormalize, normalized[0], swapped[0]), torch.where(renormalize, normalized[1], swapped[1])
