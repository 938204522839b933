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


def swap(x: Tensor, y: Tensor, config: SwapConfig, seed: int, step: int) -> tuple[Tensor, Tensor]:
    """Swaps features; the sum of both stays what it was, entry by entry.

    ``hard``: each entry is exchanged with probability 0.5. ``soft``: each entry x becomes λx + (1-λ)y and y becomes
    λy + (1-λ)x, with λ ~ U[0, 1] for each entry.

    Args:
        x: Image features, shape (n, d).
        y: Text features, shape (n, d).
        config: Kind, and whether the results are normalized again.
        seed: Seed of the trial.
        step: Decides, with the seed, which entries.

    Returns:
        The swapped features.
    """
    weight = torch.rand(x.shape, generator=generator(seed, "swap", step)).to(x.device, x.dtype)
    if config.kind == "hard":
        weight = (weight < 0.5).to(x.dtype)
    swapped = weight * x + (1 - weight) * y, weight * y + (1 - weight) * x
    if config.renormalize:
        return F.normalize(swapped[0], dim=1), F.normalize(swapped[1], dim=1)
    return swapped
