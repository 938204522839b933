"""Checkpoints: written in one step, checked when read, the one before kept for when the newest is damaged."""

from __future__ import annotations

import hashlib
import io
import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gaptune.errors import UserError

SAMPLE = "sample.npz"
_KEEP = 2
_DIGEST = 32  # bytes of SHA-256 that end each file

log = logging.getLogger(__name__)


class Checkpoints:
    """The checkpoints of one trial, ``epoch-0003.pt`` and so on, of which the newest two are kept.

    Args:
        folder: Where they are; made when the first is written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(self, epoch: int, state: dict[str, Any]) -> None:
        """Writes a checkpoint; until it is whole, under another name.

        Args:
            epoch: Epochs trained.
            state: Tensors, numbers, texts, and lists and mappings of them.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        buffer = io.BytesIO()
        torch.save(state, buffer)
        content = buffer.getbuffer()
        path = self.folder / f"epoch-{epoch:04d}.pt"
        partial = path.with_suffix(".partial")
        with partial.open("wb") as file:
            file.write(content)
            file.write(hashlib.sha256(content).digest())
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        kept = [other for other in self._newest_first() if other <= path][:_KEEP]
        for other in self._newest_first():
            if other not in kept:  # a newer one is damaged: the training would else have gone on from it
                other.unlink()

    def load(self) -> dict[str, Any] | None:
        """The newest checkpoint that is whole; None if there is none.

        A damaged one is named in the log and passed over.
        """
        for path in self._newest_first():
            state = _read(path)
            if state is not None:
                return state
            log.warning("checkpoint %s is damaged; the one before is used", path)
        return None

    def _newest_first(self) -> list[Path]:
        return sorted(self.folder.glob("epoch-*.pt"), reverse=True)


def save_sample(folder: Path, images: Tensor, texts: Tensor) -> None:
    """Writes a few pairs of features beside the checkpoints, as ``sample.npz`` in float16, for pictures of them."""
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f"{SAMPLE}.partial"
    with partial.open("wb") as file:
        np.savez(file, images=images.half().cpu().numpy(), texts=texts.half().cpu().numpy())
    partial.replace(folder / SAMPLE)


def read_checkpoint(place: Path) -> dict[str, Any]:
    """The state in a checkpoint, or in the newest whole one of a folder.

    Raises:
        UserError: There is none, or it is damaged.
    """
    if not place.exists():
        raise UserError(f"there is no checkpoint {place}")
    state = Checkpoints(place).load() if place.is_dir() else _read(place)
    if state is None:
        raise UserError(f"{place} {'holds no whole checkpoint' if place.is_dir() else 'is no whole checkpoint'}")
    return state


def _read(path: Path) -> dict[str, Any] | None:
    """The state in a file; None if it is damaged."""
    content = path.read_bytes()
    if hashlib.sha256(content[:-_DIGEST]).digest() != content[-_DIGEST:]:
        return None
    state: dict[str, Any] = torch.load(io.BytesIO(content[:-_DIGEST]), map_location="cpu", weights_only=True)
    return state
