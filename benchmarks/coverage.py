"""Coverage of the 95% interval of each metric, on simulated features whose true value is known.

For each metric, many data sets are simulated and evaluated by gaptune's own functions. The coverage is the fraction of
intervals that contain the true value: the mean over all data sets, or, if test images are independent of each other,
the value for 100,000 images.

    python benchmarks/coverage.py [--sets 2000] [--seed 0]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from gaptune.metrics import classification
from gaptune.metrics.classification import knn_accuracy, probe_with_selection
from gaptune.metrics.intervals import Outcomes, bootstrap_interval
from gaptune.metrics.mmvp import pair_accuracy
from gaptune.metrics.retrieval import recalls

SIZES = (20, 50, 200)
_DIM = 16
Draw = Callable[[int, torch.Generator], Outcomes]
"""Simulates a data set of so many images and evaluates it."""


def _unit(n: int, rng: torch.Generator) -> Tensor:
    return F.normalize(torch.randn(n, _DIM, generator=rng, dtype=torch.float64), dim=1)


def _near(x: Tensor, noise: float, rng: torch.Generator) -> Tensor:
    return F.normalize(x + noise * _unit(len(x), rng), dim=1)


def retrieval(way: str, captions: int, noise: float, k: int = 1) -> Draw:
    """Recall: images differ in how well their captions fit, so that the captions of an image are correlated."""

    def draw(n: int, rng: torch.Generator) -> Outcomes:
        images, owner = _unit(n, rng), torch.arange(n).repeat_interleave(captions)
        meant = _near(images, noise, rng)  # what the captions of an image have in common
        return recalls(images, _near(meant[owner], noise, rng), owner)[f"retrieval/{way}_r{k}"]

    return draw


def _classes(labels: Tensor, noise: float, rng: torch.Generator) -> Tensor:
    return _near(torch.eye(10, _DIM, dtype=torch.float64)[labels], noise, rng)


def zero_shot(measure: str, fractions: tuple[float, ...], noise: float) -> Draw:
    """Zero-shot by classes with fractions of the images."""

    def draw(n: int, rng: torch.Generator) -> Outcomes:
        counts = [max(1, round(fraction * n)) for fraction in fractions]
        labels = torch.arange(len(fractions)).repeat_interleave(torch.tensor(counts))
        # The later a class, the harder.
        images = F.normalize(_classes(labels, noise, rng) + 0.03 * labels[:, None] * _unit(len(labels), rng), dim=1)
        return classification.zero_shot(images, torch.eye(10, _DIM, dtype=torch.float64)[: len(fractions)], labels)[
            measure
        ]

    return draw


def fitted(predict: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor], noise: float) -> Draw:
    """What is fitted once, on other images: tested on new ones."""
    fixed = torch.Generator().manual_seed(1)
    train_y = torch.arange(10).repeat(20)
    train = _classes(train_y, noise, fixed), train_y

    def draw(n: int, rng: torch.Generator) -> Outcomes:
        labels = torch.randint(10, (n,), generator=rng)
        return Outcomes(predict(*train, _classes(labels, noise, rng), labels))

    return draw


def pairs(noise: float) -> Draw:
    """Pairs of images that look alike."""

    def draw(n: int, rng: torch.Generator) -> Outcomes:
        images = _near(_unit(n, rng).repeat_interleave(2, dim=0), 0.5, rng)
        return Outcomes(pair_accuracy(images, _near(images, noise, rng)))

    return draw


_EQUAL, _UNEQUAL = (0.1,) * 10, (0.5, 0.3, 0.1, 0.1)
METRICS: dict[str, tuple[Draw, bool]] = {
    "retrieval/i2t_r1, 1 caption": (retrieval("i2t", 1, 0.7), False),
    "retrieval/i2t_r1, 5 captions": (retrieval("i2t", 5, 0.7), False),
    "retrieval/t2i_r1, 1 caption": (retrieval("t2i", 1, 0.7), False),
    "retrieval/t2i_r1, 5 captions": (retrieval("t2i", 5, 0.7), False),
    "retrieval/t2i_r5, 5 captions": (retrieval("t2i", 5, 1.0, k=5), False),
    "zeroshot/top1": (zero_shot("zeroshot/top1", _EQUAL, 2.0), True),
    "zeroshot/top1, nearly all right": (zero_shot("zeroshot/top1", _EQUAL, 1.2), True),
    "zeroshot/mean_per_class_recall, 10 equal classes": (
        zero_shot("zeroshot/mean_per_class_recall", _EQUAL, 2.0),
        True,
    ),
    "zeroshot/mean_per_class_recall, 50, 30, 10, 10%": (
        zero_shot("zeroshot/mean_per_class_recall", _UNEQUAL, 2.5),
        True,
    ),
    "knn/top1": (fitted(knn_accuracy, 1.6), True),
    "probe/top1": (fitted(probe_with_selection, 1.6), True),
    "mmvp/accuracy": (pairs(0.7), True),
}
"""By what is measured: how a data set is drawn, and whether more images would change nothing but the precision."""


def coverage(name: str, n: int, draws: int, seed: int = 0) -> tuple[float, float, float]:
    """The coverage of the interval of a metric over ``n`` images, the true value, and the mean width.

    A fitted classifier is fitted on the same images each time, so it is tested on all draws' images at once.
    """
    draw, independent = METRICS[name]
    rng = torch.Generator().manual_seed(seed)
    truth = draw(100_000, rng).mean() if independent else 0.0
    if independent and name in ("knn/top1", "probe/top1"):
        many = draw(n * draws, rng).right
        data = [Outcomes(many[start : start + n]) for start in range(0, n * draws, n)]
    else:
        data = [draw(n, rng) for _ in range(draws)]
    if not independent:
        truth = sum(each.mean() for each in data) / draws
    intervals = [bootstrap_interval(each, seed=index) for index, each in enumerate(data)]
    inside = sum(low <= truth <= high for low, high in intervals) / draws
    return inside, truth, sum(high - low for low, high in intervals) / draws


def main() -> None:
    """Prints a row for each metric: true value and coverage for each number of images."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    print("| metric | " + " | ".join(f"{n} images" for n in SIZES) + " |")
    print("|---|" + "---|" * len(SIZES))
    for name in METRICS:
        cells = []
        for n in SIZES:
            inside, truth, _ = coverage(name, n, asked.sets, asked.seed)
            cells.append(f"{100 * inside:.1f}% (of {truth:.2f})")
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
