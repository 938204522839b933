"""What reading a large store in blocks gains and costs beside a full shuffle: images a second, and mixing.

Speed is that of reading alone, from a file that is not in memory.

Mixing is measured where it is hardest, on data that lie sorted: the standard deviation of the mean position of a batch,
relative to that under a full shuffle. 1 is as well mixed; data that are not shuffled at all have about 18 at 27,000
images and a batch of 128.

    python benchmarks/blocks.py STORE [--images 10000]
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import numpy as np

from gaptune.data import Split
from gaptune.data.open import open_store
from gaptune.trial.order import epoch_order
from gaptune.trial.streams import generator

BATCH = 128


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("store", type=Path)
    parser.add_argument("--images", type=int, default=10_000)
    arguments = parser.parse_args()
    split = open_store(arguments.store).split("train")
    if not split.large:
        raise SystemExit("this store is not large: it is shuffled as a whole")
    whole = np.random.default_rng(0).permutation(len(split))
    orders = {"full shuffle": whole, "blocks": epoch_order(split, generator(0, "order", 0))}
    for name, order in orders.items():
        speed = images_per_second(arguments.store / "train.arrow", split, order[: arguments.images])
        print(f"{name:12}  {speed:7,.0f} images/s  batch mean {spread(order) / spread(whole):.2f} x a full shuffle's")


def images_per_second(file: Path, split: Split, rows: np.ndarray) -> float:
    """Of reading alone, after the kernel has forgotten the file."""
    with file.open("rb") as opened:
        os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    started = time.perf_counter()
    for start in range(0, len(rows), BATCH):
        split.gather(rows[start : start + BATCH])
    return len(rows) / (time.perf_counter() - started)


def spread(order: np.ndarray) -> float:
    """Standard deviation of the mean position of a batch."""
    return float(order[: len(order) // BATCH * BATCH].reshape(-1, BATCH).mean(axis=1).std())


if __name__ == "__main__":
    main()
