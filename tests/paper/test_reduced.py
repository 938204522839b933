"""The reduced flow: its rates as derived, Lemma 3.1, and where it comes from."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gaptune.paper.theory.rates import SCALES, fit_rates
from gaptune.paper.theory.reduced import Setting, flow, lemma_deviation, log_minus_slope, right_hand_side
from gaptune.paper.theory.scales import Scale

scales = st.sampled_from([scale for scale in SCALES if scale.kind != "fixed"])


def test_every_fitted_slope_is_within_one_percent_of_the_derived_one():
    rates = fit_rates()
    assert len(rates) == 9
    for rate in rates:
        assert rate.agrees, rate
    assert {rate.derived for rate in rates if "log β" in rate.what} == {-2.0, -8.0, -32.0}


def test_a_fit_over_four_decades_finds_the_gap_laws_too():
    for rate in fit_rates(decades=14.0, over=4.0):
        if rate.what != "β against log t":  # which is still 6 % off at t = 10^14
            assert rate.agrees, rate


@pytest.mark.parametrize("scale", SCALES, ids=lambda scale: scale.name)
def test_lemma_3_1_holds_along_every_trajectory(scale):
    assert flow(scale, decades=14.0).lemma.max() < 1e-6


@given(scales, st.floats(1.0, 200.0), st.floats(-400.0, -0.01))
def test_lemma_3_1_holds_at_any_point(scale, beta, log_gamma):
    assert lemma_deviation(scale, Setting(), beta, log_gamma) < 1e-9


def nu_of(scale, beta):
    if scale.kind == "softplus":
        return beta + math.log(-math.expm1(-beta))
    return scale.s * math.log(beta)


def beta_of(scale, nu):
    return torch.nn.functional.softplus(nu, threshold=100) if scale.kind == "softplus" else torch.exp(nu / scale.s)


@given(scales, st.floats(2.0, 15.0), st.floats(0.01, 0.95), st.integers(2, 9))
def test_the_flow_is_the_gradient_of_clips_loss_in_nu_and_gamma(scale, beta, gamma, pairs):
    """The whole loss of n parallel pairs with orthogonal directions (margin 1), differentiated by autograd."""
    nu = torch.tensor(nu_of(scale, beta), dtype=torch.float64, requires_grad=True)
    offset = torch.tensor(gamma, dtype=torch.float64, requires_grad=True)
    directions = torch.eye(pairs, dtype=torch.float64)
    height = offset.expand(pairs, 1)
    x = torch.cat([torch.sqrt(1 - offset**2) * directions, height], dim=1)
    y = torch.cat([torch.sqrt(1 - offset**2) * directions, -height], dim=1)
    logits = beta_of(scale, nu) * x @ y.T
    targets = torch.arange(pairs)
    loss = (
        torch.nn.functional.cross_entropy(logits, targets) + torch.nn.functional.cross_entropy(logits.T, targets)
    ) / 2
    loss.backward()
    d_beta, d_log_gamma = right_hand_side(scale, Setting(pairs=pairs), beta, math.log(gamma))
    assert -float(offset.grad) == pytest.approx(d_log_gamma * gamma, rel=1e-6, abs=1e-14)
    assert -float(nu.grad) * scale.slope(beta) == pytest.approx(d_beta, rel=1e-6, abs=1e-14)


def test_softplus_closes_the_gap_faster_than_the_published_rate():
    solved = flow(Scale("softplus"), decades=14.0)
    last = solved.t[-1]
    published = -np.log(last * np.log(last))  # log of 1/(t log t)
    assert solved.log_gamma[-1] < 10 * published
    exponent = np.gradient(solved.log_gamma, np.log(solved.t))  # of the power of t that it looks like locally
    late = solved.t > 1e6
    assert (np.diff(exponent[late]) < 0).all()
    assert exponent[-1] < -50


def test_exp_is_as_slow_as_theorem_3_2_says():
    solved = flow(Scale("exp"), decades=300.0, points=300)
    late = solved.t > 1e100
    scaled = np.exp(solved.log_gamma[late]) * np.log(solved.t[late]) ** 2
    assert scaled.max() / scaled.min() < 1.1


def test_the_slope_of_the_loss_neither_over_nor_underflows():
    assert log_minus_slope(1e4, Setting()) == pytest.approx(math.log(63) - 1e4)
    assert log_minus_slope(-1e4, Setting()) == pytest.approx(0.0)
