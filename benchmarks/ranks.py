"""Steps per second of a training on the CPU by one process and by two, each with one thread, and by one with two.

    python benchmarks/ranks.py [--steps 60] [--batch 128]

Of each, the best of three rounds; the rounds take turns, because other load changes the speed of a machine. Needs two
cores. The models are a small CLIP with batch norm, which costs two messages per layer forth and two back, a small
transformer, and heads on features of 512 numbers.
"""

from __future__ import annotations

import argparse
import multiprocessing
import socket
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from gaptune.config import TrialConfig, with_params
from gaptune.config.models import PRESETS
from gaptune.data import FeatureMeta, StoreWriter
from gaptune.data.open import open_store

WAYS = {"1 process, 1 thread": (1, 1), "1 process, 2 threads": (1, 2), "2 processes, 1 thread each": (2, 1)}
TRANSFORMER = {
    "embed_dim": 128,
    "vision_cfg": {"image_size": 32, "layers": 4, "width": 128, "head_width": 32, "patch_size": 4},
    "text_cfg": {"width": 128, "heads": 4, "layers": 4},
}


def features(folder: Path) -> Path:
    """A store of random features."""
    random = np.random.default_rng(0).standard_normal((4096, 512), dtype=np.float32)
    with StoreWriter(folder, features=FeatureMeta(image=512, text=512)) as writer:
        for row, each in enumerate(random):
            writer.add("val" if row < 64 else "train", each, [""], each[None], id=str(row))
        writer.finish(name="random", source={})
    return folder


def rank_of(rank: int, size: int, threads: int, port: int, model: str, path: str, args: Any, answer: Any) -> None:
    """Takes the steps as one of the processes; rank 0 answers with steps per second."""
    import torch

    from gaptune.trial.loop import Training
    from gaptune.trial.ranks import join, leave

    torch.set_num_threads(threads)
    PRESETS["transformer"] = TRANSFORMER
    ranks = join(rank, size, f"127.0.0.1:{port}")
    config = TrialConfig.model_validate({"model": {"name": model}, "device": "cpu"})
    training = Training(with_params(config, {"training.batch_size": args.batch}), open_store(path), ranks=ranks)
    steps = training.steps(0, 10**6)
    for number in range(args.steps + 3):
        if number == 3:
            started = time.perf_counter()
        next(steps)
    if rank == 0:
        answer.put(args.steps / (time.perf_counter() - started))
    leave()


def measured(size: int, threads: int, *given: Any) -> float:
    """Steps per second."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["gaptune.trial.loop", "open_clip"])
    answer = context.Queue()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    ranks = [context.Process(target=rank_of, args=(rank, size, threads, port, *given, answer)) for rank in range(size)]
    for each in ranks:
        each.start()
    rate: float = answer.get()
    for each in ranks:
        each.join()
    return rate


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--batch", type=int, default=128)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        places = {"scenes-tiny": "scenes", "transformer": "scenes", "heads": str(features(Path(folder) / "features"))}
        for model, path in places.items():
            rounds = [[measured(*way, model, path, args) for way in WAYS.values()] for _ in range(3)]
            best = [max(each) for each in zip(*rounds, strict=True)]
            print(
                model,
                *(f"{name}: {rate:.1f} steps/s" for name, rate in zip(WAYS, best, strict=True)),
                sep="\n  ",
                flush=True,
            )


if __name__ == "__main__":
    main()
