"""CPU time of a training step by parts: text, crop, image tower, loss and gradients, optimizer, and the rest.

    python benchmarks/step.py [--data DIR] [--stored 72] [--batch 128] [--epochs 2] [--model photos-small]
                              [--compile] [--small-pages]

Trains on Flickr8k with one thread, without a card. The parts are measured from outside, around the calls of the model,
of ``backward``, and of the optimizer. ``crop`` is all that happens to pixels before the tower sees them. The first 5
steps do not count.
"""

from __future__ import annotations

import argparse
import ctypes
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from flickr8k import add_data_option, build_store, unpacked

from gaptune.config import TrialConfig
from gaptune.data.open import open_store
from gaptune.trial.allocator import keep_freed_memory
from gaptune.trial.loop import Training

PARTS = ("text", "crop", "image tower", "loss and gradients", "optimizer", "the rest")
WARM_UP = 5
NO_HUGE_PAGES = 41  # PR_SET_THP_DISABLE


class Clock:
    """Milliseconds of CPU in calls, without those in measured calls within them."""

    def __init__(self) -> None:
        self.spent: Counter[str] = Counter()
        self._inner = [0.0]

    def around(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, measured as a part of the step."""

        def measured(*args: Any, **kwargs: Any) -> Any:
            self._inner.append(0.0)
            started = time.process_time()
            try:
                return function(*args, **kwargs)
            finally:
                whole = 1000 * (time.process_time() - started)
                self.spent[part] += whole - self._inner.pop()
                self._inner[-1] += whole

        return measured


def measure(training: Training, clock: Clock) -> None:
    """Puts a clock around the parts of a training's step."""
    model = training.model
    for part, names in (("text", ("trimmed", "text_inputs", "embed_texts")), ("crop", ("image_inputs",))):
        for name in names:
            setattr(model, name, clock.around(part, getattr(model, name)))
    model.embed_images = clock.around("image tower", model.embed_images)
    training.optimizer.step = clock.around("optimizer", training.optimizer.step)
    torch.Tensor.backward = clock.around("loss and gradients", torch.Tensor.backward)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_data_option(parser)
    parser.add_argument("--stored", type=int, default=72, help="side of the stored images (default: %(default)s)")
    parser.add_argument("--model", default="photos-small")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--compile", action="store_true", help="training.compile: print its longest step, too")
    parser.add_argument("--small-pages", action="store_true", help="no huge pages, whatever the system has")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.small_pages:
        ctypes.CDLL(None).prctl(NO_HUGE_PAGES, 1, 0, 0, 0)
    keep_freed_memory()  # as workers do
    clock, steps = Clock(), []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store = open_store(build_store(unpacked(arguments.data, folder), folder / "store", arguments.stored))
        config = {
            "model": {"name": arguments.model},
            "training": {
                "epochs": arguments.epochs,
                "batch_size": arguments.batch,
                "evaluate_every": arguments.epochs,
                "compile": arguments.compile,
            },
            "augment": {"crop_min": 0.6, "flip": True},
            "device": "cpu",
        }
        training = Training(TrialConfig.model_validate(config), store)
        measure(training, clock)
        before = time.process_time()
        for _ in training.steps(0, arguments.epochs):
            now = time.process_time()
            steps.append({**clock.spent, "the rest": 1000 * (now - before) - sum(clock.spent.values())})
            clock.spent.clear()
            before = time.process_time()
        report = training.report(0, arguments.epochs)
    counted = steps[WARM_UP:]
    for part in PARTS:
        taken = [step.get(part, 0.0) for step in counted]
        print(f"{part:20} {statistics.median(taken):7.2f} ms of CPU a step (median), at least {min(taken):.2f}")
    whole = [sum(step.values()) for step in counted]
    print(f"{'step':20} {statistics.median(whole):7.2f} ms of CPU (median of {len(whole)}), at least {min(whole):.2f}")
    if arguments.compile:
        print(f"{'compiling':20} {max(sum(step.values()) for step in steps) / 1000:7.1f} s of CPU: the longest step")
    print(f"loss {report.metrics['train/loss']:.4f}, recall@10 {report.metrics['retrieval/mean_r10']:.4f}")


if __name__ == "__main__":
    main()
