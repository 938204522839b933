"""Random numbers without state: each use has its own stream, decided by the seed, a name and a position.

So a trial that goes on from a checkpoint draws what it would have drawn, and switching one thing on (a swap, say)
changes nothing that another thing draws.
"""

from __future__ import annotations

import zlib

import torch


def generator(seed: int, use: str, position: int = 0) -> torch.Generator:
    """A generator on the CPU for one use at one position.

    Args:
        seed: Of the trial.
        use: What the numbers are for.
        position: Step or epoch.
    """
    mixed = (seed * 1_000_003 + zlib.crc32(use.encode())) * 1_000_003 + position
    return torch.Generator().manual_seed(mixed % 2**63)
