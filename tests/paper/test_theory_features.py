"""The flow of free features: it descends CLIP's loss, and the gap behaves as the paper says."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gaptune.paper.theory.features import free_flow, random_features, velocities
from gaptune.paper.theory.reduced import Setting, right_hand_side
from gaptune.paper.theory.scales import Scale


@given(st.integers(2, 8), st.integers(2, 5), st.floats(0.5, 30.0), st.integers(0, 99))
def test_velocities_are_the_tangent_part_of_the_losss_gradient(pairs, dimension, beta, seed):
    x, y = random_features(pairs, dimension, seed), random_features(pairs, dimension, seed + 100)
    tx, ty = torch.tensor(x, requires_grad=True), torch.tensor(y, requires_grad=True)
    nu = torch.tensor(np.log(beta), requires_grad=True)
    targets, cross_entropy = torch.arange(pairs), torch.nn.functional.cross_entropy
    logits = torch.exp(nu) * (tx / tx.norm(dim=1, keepdim=True)) @ (ty / ty.norm(dim=1, keepdim=True)).T
    ((cross_entropy(logits, targets) + cross_entropy(logits.T, targets)) / 2).backward()
    d_beta, d_x, d_y = velocities(Scale("exp"), beta, x, y)
    np.testing.assert_allclose(d_x, -tx.grad.numpy(), atol=1e-9)
    np.testing.assert_allclose(d_y, -ty.grad.numpy(), atol=1e-9)
    assert d_beta == pytest.approx(-float(nu.grad) * beta, abs=1e-9)


@given(st.floats(0.05, 0.9), st.integers(2, 8), st.floats(2.0, 20.0))
def test_parallel_features_follow_the_reduced_flow_at_their_own_pace(gamma, pairs, beta):
    """They move along the same path; 2n features of length 1 carry γ, so it moves by (1-γ²)/2n of the reduced rate."""
    u = np.eye(pairs)
    wide = np.sqrt(1 - gamma**2)
    x = np.hstack([wide * u, np.full((pairs, 1), gamma)])
    y = np.hstack([wide * u, np.full((pairs, 1), -gamma)])
    d_beta, d_x, d_y = velocities(Scale("exp"), beta, x, y)
    reduced_beta, reduced_log_gamma = right_hand_side(Scale("exp"), Setting(pairs=pairs), beta, np.log(gamma))
    assert d_beta == pytest.approx(reduced_beta, rel=1e-6)
    expected = reduced_log_gamma * gamma * (1 - gamma**2) / (2 * pairs)
    np.testing.assert_allclose(d_x[:, -1], expected, rtol=1e-6)
    np.testing.assert_allclose(d_y[:, -1], -expected, rtol=1e-6)


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 99))
def test_features_stay_on_the_sphere_and_find_their_matches(seed):
    x, y = random_features(16, 8, seed), random_features(16, 8, seed + 100)
    run = free_flow(Scale("exp"), x, y, decades=4.0, points=30)
    np.testing.assert_allclose(np.linalg.norm(run.x, axis=-1), 1.0)
    assert run.mismatched[0] > 0.5
    assert run.mismatched[-1] == 0.0


@pytest.mark.whole
def test_cones_first_move_apart_and_a_fixed_temperature_closes_the_gap_that_exp_leaves():
    x, y = (random_features(128, 32, seed, spread=0.5) for seed in (0, 1))
    learnt, fixed = (free_flow(Scale(kind), x, y, decades=6.0, points=120) for kind in ("exp", "fixed"))
    assert learnt.gap.max() > learnt.gap[0]
    assert learnt.mismatched[learnt.gap.argmax()] > 0.9
    assert learnt.gap[-1] > 1.0
    assert fixed.gap[-1] < 0.01


def test_random_cones_in_many_dimensions_nearly_all_move_apart_at_first():
    rises = 0
    for seed in range(50):
        x, y = random_features(64, 64, 2 * seed, spread=0.5), random_features(64, 64, 2 * seed + 1, spread=0.5)
        _, d_x, d_y = velocities(Scale("exp"), 1 / 0.07, x, y)
        rises += (x.mean(0) - y.mean(0)) @ (d_x.mean(0) - d_y.mean(0)) > 0
    assert rises >= 45
