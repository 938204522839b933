"""Both measures of uniformity against plain implementations."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import sqrtm
from sphere import pairs, rotation, unit

from gaptune.metrics import uniformity as room
from gaptune.metrics.uniformity import w2, wang_isola


def plain_w2(x):
    """Fang et al. 2024, with a matrix square root."""
    x = x.numpy()
    mean, covariance = x.mean(0), np.cov(x.T, bias=True)
    root = np.real(sqrtm(covariance))
    squared = mean @ mean + 1 + np.trace(covariance) - 2 / math.sqrt(x.shape[1]) * np.trace(root)
    return -math.sqrt(squared)


def plain_wang_isola(x, t):
    """Wang & Isola 2020: (torch.pdist(x) ** 2).mul(-t).exp().mean().log(), pair by pair."""
    potentials = [math.exp(-t * math.dist(a, b) ** 2) for a, b in itertools.combinations(x.tolist(), 2)]
    return math.log(sum(potentials) / len(potentials))


@pytest.mark.parametrize(("n", "d"), [(50, 3), (200, 16), (400, 64)])
@pytest.mark.parametrize("cone", [0.0, 2.0])
def test_w2_agrees_with_a_matrix_square_root(n, d, cone):
    x = torch.nn.functional.normalize(unit(n, d, 1) + cone * unit(1, d, 2), dim=1)
    assert w2(x) == pytest.approx(plain_w2(x), abs=1e-6)


@given(pairs(least=2), st.sampled_from([0.5, 2.0, 5.0]))
def test_wang_isola_agrees_with_a_loop(sides, t):
    assert wang_isola(sides[0], t) == pytest.approx(plain_wang_isola(sides[0], t), abs=1e-12)


def test_wang_isola_uses_a_sharpness_of_two_by_default():
    x = unit(20, 5)
    assert wang_isola(x) == wang_isola(x, 2.0) != wang_isola(x, 3.0)


@given(pairs(least=2), st.integers(0, 99))
def test_bounds_and_rotations(sides, seed):
    x = sides[0]
    n, d = x.shape
    turned = x @ rotation(d, seed)
    assert w2(x) <= 0.0
    assert -4.0 * n / (n - 1) - 1e-9 <= wang_isola(x) <= 1e-9
    assert w2(turned) == pytest.approx(w2(x), abs=1e-6)
    assert wang_isola(turned) == pytest.approx(wang_isola(x), abs=1e-9)


def test_collapsed_features_are_as_far_from_uniform_as_can_be():
    x = unit(1, 16).repeat(9, 1)
    assert w2(x) == pytest.approx(-math.sqrt(2), abs=1e-6)  # ||μ||² + 1 with no spread
    assert wang_isola(x) == pytest.approx(0.0, abs=1e-12)


def test_even_spread_has_no_distance_to_the_gaussian():
    axes = torch.cat([torch.eye(8), -torch.eye(8)])  # mean 0, covariance I/8
    assert w2(axes) == pytest.approx(0.0, abs=1e-7)


@pytest.mark.parametrize("metric", [w2, lambda x: -wang_isola(x)], ids=["w2", "wang_isola"])
def test_more_uniform_features_have_better_metrics(metric):
    even, axis = unit(300, 16, 1), unit(1, 16, 2)
    cones = [metric(torch.nn.functional.normalize(even + cone * axis, dim=1)) for cone in (0.0, 1.0, 4.0)]
    assert cones == sorted(cones, reverse=True)


def test_metrics_of_fewer_features_than_dimensions_follow_the_singular_values():
    x = unit(5, 32)
    singular = torch.linalg.svdvals(x - x.mean(0)) / math.sqrt(5)
    spread = 1 + float(singular.square().sum()) - 2 / math.sqrt(32) * float(singular.sum())
    assert w2(x) == pytest.approx(-math.sqrt(float(x.mean(0).square().sum()) + spread), abs=1e-6)


def test_single_precision_is_good_to_six_digits():
    x = unit(500, 64)
    assert w2(x.float()) == pytest.approx(w2(x), abs=1e-6)
    assert wang_isola(x.float()) == pytest.approx(wang_isola(x), abs=1e-6)


def test_blocks_change_nothing(monkeypatch):
    x = unit(23, 6)
    whole = wang_isola(x)
    monkeypatch.setattr(room, "_BLOCK", 5)
    assert wang_isola(x) == pytest.approx(whole, abs=1e-12)


def test_too_few_features_are_refused():
    with pytest.raises(ValueError, match="n at least 1"):
        w2(torch.zeros(0, 4))
    with pytest.raises(ValueError, match="n at least 2"):
        wang_isola(unit(1, 4))
    for metric in (w2, wang_isola):
        with pytest.raises(ValueError, match="shape"):
            metric(torch.zeros(4))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_results_on_gpu_and_cpu_agree():
    x = unit(300, 64, dtype=torch.float32)
    assert w2(x.cuda()) == pytest.approx(w2(x), abs=1e-6)
    assert wang_isola(x.cuda()) == pytest.approx(wang_isola(x), abs=1e-5)
