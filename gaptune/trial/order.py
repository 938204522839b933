"""The order of the training images in an epoch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from itertools import accumulate

import numpy as np
import numpy.typing as npt
import torch

from gaptune.data import Split
from gaptune.data.store.mixture import MixedSplit
from gaptune.data.store.reader import WINDOW
from gaptune.text.numbers import exact

BLOCK = WINDOW // 64  # 4 MiB: Linux may map 2 MiB around whatever is touched
"""Bytes of neighboring images of a large split that are read together."""

_GOLDEN = 0x9E3779B97F4A7C15  # 2^64 over the golden ratio: multiples of it modulo 2^64 lie evenly
_NEAR = 64  # batches on each side in which a place for an image is looked for

Rows = npt.NDArray[np.int64]


def epoch_order(split: Split, generator: torch.Generator, batch: int | None = None) -> Rows:
    """The rows of an epoch, as many as the split has images.

    A split that is not large is permuted as a whole. A large one is cut into blocks of neighbors, the blocks are
    permuted, and the rows of each 64 blocks are permuted among themselves, so that no more than these are read at a
    time.

    Of mixed splits each has its own order, which starts again where it has fewer images than the epoch takes, and each
    batch has its fraction of every split, rounded up or down by chance. So a row comes twice in a batch only where a
    split has fewer images than the batch takes of it, and then as rarely as can be. Equal images of several splits
    are moved to neighboring batches.

    Args:
        split: The training images.
        generator: Source of the random numbers. Neighboring epochs have neighboring seeds (``streams.generator``).
        batch: Rows of a batch; None where they are not cut into batches. What is left at the end is no batch.

    Returns:
        Shape (len(split),).
    """
    if isinstance(split, MixedSplit):
        return _mixed(split, generator, batch or len(split))
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


def apportion(total: int, weights: Sequence[Fraction | int], offset: float) -> list[int]:
    """Splits a number by weight into whole numbers that add up to it: each exact fraction rounded down or up.

    It is systematic sampling: of the points offset, offset + 1, …, each weight has those within its part of the whole.

    Args:
        total: The number.
        weights: Relative to each other.
        offset: In [0, 1). Where it is drawn evenly, the mean of each number is its exact fraction.
    """
    bounds = [Fraction(bound) for bound in accumulate(weights)]
    ends = [math.ceil(total * bound / bounds[-1] - Fraction(offset)) for bound in bounds]
    return [end - start for start, end in zip([0, *ends], ends, strict=False)]


def _mixed(split: MixedSplit, generator: torch.Generator, batch: int) -> Rows:
    total = len(split)
    offset = generator.initial_seed() * _GOLDEN % 2**64 / 2**64  # fractions come out over few epochs
    left = apportion(total, [exact(weight) for weight in split.weights], min(offset, 1 - 2**-53))
    sizes = [total % batch] + [batch] * (total // batch)
    table = np.zeros((len(sizes), len(left)), dtype=np.int64)  # of each batch, how many of each split
    draws = torch.rand(len(sizes), generator=generator, dtype=torch.float64).tolist()
    for index, (size, draw) in enumerate(zip(sizes, draws, strict=True)):
        table[index] = apportion(size, left, draw)
        left = [have - taken for have, taken in zip(left, table[index].tolist(), strict=True)]
    table = np.roll(table, -1, axis=0)  # the last batch, which is not full, was dealt out first
    turns = np.repeat(np.tile(np.arange(table.shape[1]), len(table)), table.ravel())
    turns = turns[np.lexsort((torch.rand(total, generator=generator).numpy(), np.arange(total) // batch))]
    order = np.empty(total, dtype=np.int64)
    for index, part in enumerate(split.parts):
        order[turns == index] = _rounds(part, table[:, index], generator) + split.starts[index]
    if split.same is not None:
        _part_equal(order, split.same, batch, generator)
    return order


def _rounds(part: Split, counts: Rows, generator: torch.Generator) -> Rows:
    """A split's rows for all batches: round after round, no row twice in a batch that takes part in two of them.

    Args:
        part: The split.
        counts: Number of rows that each batch takes.
        generator: Decides the order of each round.
    """
    n = len(part)
    ends = np.cumsum(counts)
    starts = ends - counts
    rounds = [epoch_order(part, generator) for _ in range(-(-int(ends[-1]) // n))]
    rows = np.concatenate([np.empty(0, dtype=np.int64), *rounds])
    firsts, lasts = -(-starts // n) * n, (ends - 1) // n * n  # where rounds start within a batch
    for index in np.flatnonzero((starts < firsts) & (firsts <= lasts)):
        before = rows[starts[index] : firsts[index]]
        latest = rows[lasts[index] : lasts[index] + n]
        others = np.flatnonzero(np.isin(latest, before, invert=True))[: ends[index] - lasts[index]]
        latest[:] = np.concatenate([latest[others], np.delete(latest, others)])
    return rows[: ends[-1]]


def _part_equal(order: Rows, same: Rows, batch: int, generator: torch.Generator) -> None:
    """Exchanges rows between batches, so that no batch has equal images of several splits; where that can be done.

    Args:
        order: The rows of an epoch, changed in place.
        same: For each row, the first row with an equal image.
        batch: Rows of a batch.
        generator: Decides which of those that fit is exchanged.
    """
    images = same[order]
    batches = len(order) // batch
    where = np.arange(batches * batch) // batch
    by_image = np.lexsort((images[: len(where)], where))
    again = (np.diff(images[by_image]) == 0) & (np.diff(where[by_image]) == 0)
    shared = np.bincount(same, minlength=len(same))[images] > 1
    places = [place for place in by_image[1:][again] if shared[place]]
    picks = torch.rand(len(places), generator=generator).tolist()
    for place, pick in zip(places, picks, strict=True):
        mine = int(where[place])
        own = images[mine * batch : (mine + 1) * batch]
        if np.count_nonzero(own == images[place]) < 2:  # the other one has been moved
            continue
        near = sorted(range(max(0, mine - _NEAR), min(batches, mine + _NEAR + 1)), key=lambda at: abs(at - mine))
        for other in [*near[1:], batches]:
            theirs = images[other * batch : (other + 1) * batch]
            if other < batches and (theirs == images[place]).any():
                continue
            fitting = np.flatnonzero(np.isin(theirs, own, invert=True))
            if len(fitting):
                target = other * batch + int(fitting[int(pick * len(fitting))])
                for array in (order, images):
                    array[[place, target]] = array[[target, place]]
                break


def _permutation(n: int, generator: torch.Generator) -> Rows:
    return torch.randperm(n, generator=generator).numpy()
