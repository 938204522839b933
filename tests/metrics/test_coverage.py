"""Intervals hold the truth as often as they say: benchmarks/coverage.py, with few draws unless GAPTUNE_SOAK=full."""

import os
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import beta
from sklearn.metrics import balanced_accuracy_score

from gaptune.metrics.classification import zero_shot
from gaptune.metrics.intervals import Outcomes, bootstrap_interval

FULL = os.environ.get("GAPTUNE_SOAK") == "full"
SIMULATION = runpy.run_path(str(Path(__file__).resolve().parents[2] / "benchmarks/coverage.py"))


@pytest.mark.whole
@pytest.mark.parametrize("name", SIMULATION["METRICS"])
@pytest.mark.timeout(600)
def test_95_percent_interval_has_a_coverage_of_93_to_97_percent(name):
    # With few images a metric has few possible values, so no interval reaches exactly 95%; the docs show 20 images.
    for n in (50, 200) if FULL else (50,):
        draws = 2000 if FULL else 150
        inside, _, _ = SIMULATION["coverage"](name, n, draws)
        chance = 3 * (0.05 * 0.95 / draws) ** 0.5
        assert 0.93 - chance <= inside <= 0.975 + chance


def test_plain_fraction_has_the_interval_of_jeffreys():
    for right, n in ((10, 20), (19, 20), (90, 100)):
        expected = beta.ppf([0.025, 0.975], right + 0.5, n - right + 0.5)
        values = torch.tensor([1.0] * right + [0.0] * (n - right))
        assert bootstrap_interval(values) == pytest.approx(tuple(expected), abs=0.01)


@pytest.mark.parametrize("fraction", [0.0, 1.0])
def test_interval_is_not_a_point_when_all_are_right_or_wrong(fraction):
    low, high = bootstrap_interval(torch.full((20,), fraction))
    assert fraction in (low, high)
    assert high - low == pytest.approx(0.117, abs=0.01)  # Jeffreys' of 20
    five = Outcomes(torch.full((100,), fraction), images=torch.arange(20).repeat_interleave(5))
    assert np.diff(bootstrap_interval(five))[0] == pytest.approx(0.117, abs=0.01)  # of 20 images, not of 100 captions


def test_captions_of_an_image_that_are_right_together_count_once():
    right = torch.rand(60, generator=torch.manual_seed(0)).round()
    alone = bootstrap_interval(right)
    together = bootstrap_interval(Outcomes(right.repeat_interleave(5), images=torch.arange(60).repeat_interleave(5)))
    assert together == pytest.approx(alone, abs=0.005)
    low, high = bootstrap_interval(right.repeat_interleave(5))
    assert high - low < 0.5 * (alone[1] - alone[0])


def test_images_may_have_captions_in_any_number_and_order():
    rng = torch.manual_seed(1)
    owner = torch.arange(50).repeat_interleave(torch.randint(1, 6, (50,), generator=rng))
    right = torch.rand(len(owner), generator=rng).round().double()
    mixed = torch.randperm(len(owner), generator=rng)
    interval = bootstrap_interval(Outcomes(right, images=owner))
    assert bootstrap_interval(Outcomes(right[mixed], images=owner[mixed])) == pytest.approx(interval, abs=1e-12)
    assert interval[0] < float(right.mean()) < interval[1]


def test_mean_recall_of_unequal_classes_has_the_interval_of_the_balanced_accuracy():
    classes, labels = torch.eye(2), torch.tensor([0] * 95 + [1] * 5)
    low, high = bootstrap_interval(zero_shot(classes[labels], classes, labels)["zeroshot/mean_per_class_recall"])
    assert 0 < low < 0.95
    assert high == 1
    labels = torch.tensor([0] * 90 + [1] * 10)
    guess = labels.clone()
    guess[:9], guess[90:95] = 1, 0
    recall = zero_shot(classes[guess], classes, labels)["zeroshot/mean_per_class_recall"]
    assert recall.mean() == pytest.approx(balanced_accuracy_score(labels, guess))
    rng, drawn = np.random.default_rng(0), []
    for _ in range(500):
        rows = rng.integers(100, size=100)
        drawn.append(balanced_accuracy_score(labels.numpy()[rows], guess.numpy()[rows]))
    assert bootstrap_interval(recall) == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])), abs=0.03)


@pytest.mark.parametrize("counts", [(1, 1), (1, 1, 1, 50), (3,) * 30])
def test_interval_of_a_mean_recall_stays_in_its_range(counts):
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    for seed in range(20):
        right = torch.rand(len(labels), generator=torch.manual_seed(seed)).round().double()
        recall = Outcomes(right, classes=labels)
        low, high = bootstrap_interval(recall)
        assert 0 <= low <= recall.mean() <= high <= 1


def test_values_that_are_no_fractions_are_refused():
    with pytest.raises(ValueError, match="between 0 and 1"):
        bootstrap_interval(torch.tensor([0.5, 1.5]))
