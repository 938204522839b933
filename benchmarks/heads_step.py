"""A training step of heads against a plain trainer in torch: processor time of both, epoch by epoch in turns.

The plain trainer is what one would write for these heads alone: features in memory, dropout by random bytes, two linear
layers, cross entropy, AdamW. It has no temperature schedule, no swap, no checks, no reports. One thread, no GPU.

    python benchmarks/heads_step.py [--store STORE] [--epochs 12]
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from gaptune.config import TrialConfig
from gaptune.data import FeatureMeta, Store, StoreWriter
from gaptune.data.open import open_store
from gaptune.trial.loop import Training
from gaptune.trial.optim import lr_factor

IMAGES, CAPTIONS, WIDTHS = 6091, 5, FeatureMeta(image=1280, text=384)
BATCH, WIDTH, DROPPED = 512, 512, 51  # of 256 random bytes: dropout 0.2


def random_store(out: Path) -> Store:
    """A store of random features, of the size of Flickr8k."""
    random = np.random.default_rng(0)
    with StoreWriter(out, features=WIDTHS) as writer:
        for split, count in (("train", IMAGES), ("val", 100)):
            for row in range(count):
                image = random.standard_normal(WIDTHS.image, dtype=np.float32)
                texts = random.standard_normal((CAPTIONS, WIDTHS.text), dtype=np.float32)
                writer.add(split, image, [f"{row} {n}" for n in range(CAPTIONS)], texts, id=f"{split}-{row}")
        return writer.finish(name="random features", source={})


class Plain:
    """The plain trainer."""

    def __init__(self, store: Store, epochs: int) -> None:
        split = store.split("train")
        assert store.meta.features is not None
        self._images = self._scaled(split.gather(np.arange(len(split))))
        self._texts = self._scaled(split.texts)
        self._first, self._count = torch.from_numpy(split.offsets[:-1]), torch.from_numpy(np.diff(split.offsets))
        self._heads = [torch.nn.Linear(width, WIDTH) for width in (self._images.shape[1], self._texts.shape[1])]
        self._nu = torch.nn.Parameter(torch.tensor(math.log(1 / 0.07)))
        matrices, biases = [each.weight for each in self._heads], [each.bias for each in self._heads]
        groups = [
            {"params": matrices, "weight_decay": 0.1, "peak": 1e-3},
            {"params": biases, "weight_decay": 0.0, "peak": 1e-3},
            {"params": [self._nu], "weight_decay": 0.0, "peak": 0.05},
        ]
        self._optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.98), eps=1e-6, fused=True)
        self._labels = torch.arange(BATCH)
        self._random = np.random.Generator(np.random.SFC64(0))
        self._done, self._steps = 0, epochs * (len(split) // BATCH)

    def epoch(self) -> None:
        """All steps of an epoch."""
        order = torch.randperm(len(self._images))
        for rows in order[: len(order) // BATCH * BATCH].split(BATCH):
            texts = self._first[rows] + (torch.rand(BATCH) * self._count[rows]).long()
            x, y = (
                F.normalize(head(self._dropped(features[chosen])), dim=1)
                for head, features, chosen in zip(self._heads, (self._images, self._texts), (rows, texts), strict=True)
            )
            logits = self._nu.exp() * x @ y.T
            loss = (F.cross_entropy(logits, self._labels) + F.cross_entropy(logits.T, self._labels)) / 2
            for group in self._optimizer.param_groups:
                group["lr"] = group["peak"] * lr_factor(self._done, self._steps, 0.2)
            self._optimizer.zero_grad()
            loss.backward()
            self._optimizer.step()
            with torch.no_grad():
                self._nu.clamp_(max=math.log(100))
            self._done += 1

    @staticmethod
    def _scaled(features: np.ndarray) -> torch.Tensor:
        scale = math.sqrt(features.shape[1]) * 256 / (256 - DROPPED)
        return F.normalize(torch.tensor(features).float(), dim=1) * scale

    def _dropped(self, features: torch.Tensor) -> torch.Tensor:
        words = self._random.integers(0, 2**64, features.numel() // 8, dtype=np.uint64)
        kept = words.view(np.uint8).reshape(features.shape) >= DROPPED
        np.multiply(features.numpy(), kept, out=features.numpy())
        return features


def gaptune_training(store: Store, epochs: int) -> Training:
    """The training of gaptune with the same settings, without evaluation."""
    config = TrialConfig.model_validate(
        {
            "model": {"name": "heads"},
            "training": {"epochs": epochs, "batch_size": BATCH},
            "optimizer": {"lr": 1e-3, "warmup": 0.2, "weight_decay": 0.1},
            "temperature": {"lr": 0.05},
            "device": "cpu",
        }
    )
    return Training(config, store)


def milliseconds(epoch: Callable[[], object], steps: int) -> float:
    """Processor time per step."""
    start = time.process_time()
    epoch()
    return (time.process_time() - start) / steps * 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, help="A store of features; default: random ones of Flickr8k's size.")
    parser.add_argument("--epochs", type=int, default=12)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(arguments.store) if arguments.store else random_store(Path(folder) / "store")
        plain, training = Plain(store, arguments.epochs), gaptune_training(store, arguments.epochs)
        steps = store.meta.splits["train"].images // BATCH
        pairs = [
            (milliseconds(plain.epoch, steps), milliseconds(lambda at=epoch: list(training.steps(at, at + 1)), steps))
            for epoch in range(arguments.epochs)
        ][1:]
    for name, times in zip(("plain trainer", "gaptune"), zip(*pairs, strict=True), strict=True):
        print(f"{name:14s} {statistics.median(times):6.2f} ms a step (fastest epoch {min(times):.2f})")
    ratio = statistics.median(mine / theirs for theirs, mine in pairs)
    print(f"gaptune takes {ratio:.3f} of the plain trainer's time")


if __name__ == "__main__":
    main()
