"""Random numbers without state: each use has its own stream, determined by the seed, a name and a position.

So a resumed trial draws the same numbers, and switching one thing on (for example a swap)
changes nothing that another thing draws.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def generator(seed: int, use: str, position: int = 0) -> torch.Generator:
    """A generator on the CPU for one use at one position.

    Args:
        seed: Seed of the trial.
        use: Purpose of the numbers.
        position: Step or epoch.
    """
    mixed = (seed * 1_000_003 + zlib.crc32(use.encode())) * 1_000_003 + position
    return torch.Generator().manual_seed(mixed % 2**63)


@contextmanager
def global_seed(seed: int, device: torch.device) -> Iterator[None]:
    """Seeds torch's global generators, from which weights and dropout are drawn, and puts them back afterwards.

    Args:
        seed: For the CPU and the device.
        device: Device of the trial.
    """
    if device.type == "cuda":
        with torch.random.fork_rng(devices=[device]):
            torch.manual_seed(seed)
            yield
        return
    here = torch.default_generator  # where CUDA is not in use, torch.manual_seed takes 0.5 ms to note who called it
    before = here.get_state()
    try:
        here.manual_seed(seed)
        yield
    finally:
        here.set_state(before)
