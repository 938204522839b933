"""Towers compiled by ``torch.compile``."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from gaptune.errors import UserError, first_line
from gaptune.trial.encoder import DualEncoder
from gaptune.trial.heads import Heads


def compile_towers(model: DualEncoder, *, backend: str = "inductor") -> None:
    """Has torch compile the parts of a model that compute the most, when each first runs; its weights stay as they are.

    Args:
        model: The model.
        backend: The compiler, by torch's name.

    Raises:
        UserError: torch cannot compile here; it needs a C++ compiler, for instance.
    """
    try:
        torch.compile(_probe, backend=backend)(torch.zeros(8))
    except Exception as error:  # of many kinds: no compiler, no headers, no space for its cache
        raise UserError(f"training.compile: torch cannot compile here: {first_line(error)}") from None
    for part in _parts(model):
        part.compile(backend=backend)


def _probe(x: torch.Tensor) -> torch.Tensor:
    return (x + 1).relu()


def _parts(model: DualEncoder) -> list[nn.Module]:
    tower: Any = model.tower
    if isinstance(model, Heads):
        return [tower.image, tower.text]
    text = getattr(tower, "text", tower)
    return [tower.visual, getattr(text, "transformer", text)]
