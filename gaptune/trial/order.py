"""In which order the training images of an epoch come."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from gaptune.data import Split
from gaptune.data.mix import MixedSplit
from gaptune.data.store import WINDOW

BLOCK = WINDOW // 64  # 4 MiB: Linux may map 2 MiB around whatever is touched
"""Bytes of neighbouring images of a large split that are read together."""

Rows = npt.NDArray[np.int64]


def epoch_order(split: Split, generator: torch.Generator) -> Rows:
    """The rows of an epoch, as many as the split has images.

    A split that is not large is permuted as a whole. A large one is cut into blocks of neighbours, the blocks are
    permuted, and the rows of each 64 blocks are permuted among themselves, so that no more than these are read at a
    time. Of mixed splits each has its own order and gives its share by weight, from the start again where it has
    fewer images than that; which of them comes next is a permutation too.

    Args:
        split: The training images.
        generator: Decides everything.

    Returns:
        Shape (len(split),).
    """
    if isinstance(split, MixedSplit):
        return _mixed(split, generator)
    if not split.large:
        return _permutation(len(split), generator)
    block = max(1, BLOCK // split.image_bytes)
    window = WINDOW // BLOCK
    blocks = _permutation(-(-len(split) // block), generator)
    parts = []
    for start in range(0, len(blocks), window):
        rows = (blocks[start : start + window, None] * block + np.arange(block)).ravel()
        rows = rows[rows < len(split)]
        parts.append(rows[_permutation(len(rows), generator)])
    return np.concatenate(parts)


def _mixed(split: MixedSplit, generator: torch.Generator) -> Rows:
    counts = shares(len(split), split.weights)
    turns = np.repeat(np.arange(len(counts)), counts)[_permutation(len(split), generator)]
    order = np.empty(len(split), dtype=np.int64)
    for index, (part, count) in enumerate(zip(split.parts, counts, strict=True)):
        rounds = [epoch_order(part, generator) for _ in range(-(-count // len(part)))]
        if rounds:
            order[turns == index] = np.concatenate(rounds)[:count] + split.starts[index]
    return order


def shares(total: int, weights: tuple[float, ...]) -> list[int]:
    """Splits a number by weight into whole numbers that add up to it.

    Each is its exact share rounded down or up; those that lose most by rounding down are rounded up.
    """
    exact = np.asarray(weights) * (total / sum(weights))
    counts = np.floor(exact).astype(np.int64)
    for index in np.argsort(counts - exact, kind="stable")[: total - int(counts.sum())]:
        counts[index] += 1
    return [int(count) for count in counts]


def _permutation(n: int, generator: torch.Generator) -> Rows:
    return torch.randperm(n, generator=generator).numpy()
