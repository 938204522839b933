"""Hard and soft swap of feature entries."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sphere import unit

from gaptune.config import SwapConfig
from gaptune.trial.swap import draw_fractions, swaps_at
from gaptune.trial.swap import swap as swap_by

KINDS = ["hard", "soft"]


def swap(x, y, params, seed, step):
    """The swap of a training step."""
    return swap_by(x, y, draw_fractions(tuple(x.shape), params, seed, step), renormalize=params.renormalize)


sides = st.tuples(st.integers(1, 8), st.integers(1, 8), st.integers(0, 999)).map(
    lambda drawn: (unit(*drawn), unit(drawn[0], drawn[1], drawn[2] + 1))
)


@pytest.mark.parametrize("kind", KINDS)
@given(pair=sides, step=st.integers(0, 10**6))
def test_sum_stays_and_each_entry_lies_between_the_two_it_comes_from(kind, pair, step):
    x, y = pair
    new_x, new_y = swap(x, y, SwapConfig(kind=kind), seed=3, step=step)
    torch.testing.assert_close(new_x + new_y, x + y)
    low, high = torch.minimum(x, y) - 1e-12, torch.maximum(x, y) + 1e-12
    assert ((low <= new_x) & (new_x <= high) & (low <= new_y) & (new_y <= high)).all()


@given(pair=sides, step=st.integers(0, 10**6))
def test_hard_swap_keeps_or_exchanges_each_entry_exactly(pair, step):
    x, y = pair
    new_x, new_y = swap(x, y, SwapConfig(kind="hard"), seed=3, step=step)
    kept, exchanged = (new_x == x) & (new_y == y), (new_x == y) & (new_y == x)
    assert (kept | exchanged).all()


def test_hard_swap_exchanges_half_of_the_entries():
    x, y = torch.ones(200, 200), torch.zeros(200, 200)
    new_x, _ = swap(x, y, SwapConfig(kind="hard"), seed=0, step=0)
    assert float((new_x == 0).float().mean()) == pytest.approx(0.5, abs=0.02)


def test_soft_swap_mixes_with_uniform_fractions_for_each_entry():
    x, y = torch.ones(200, 200), torch.zeros(200, 200)
    fraction, _ = swap(x, y, SwapConfig(kind="soft"), seed=0, step=0)
    deciles = torch.quantile(fraction.flatten()[:10_000], torch.linspace(0.1, 0.9, 9))
    torch.testing.assert_close(deciles, torch.linspace(0.1, 0.9, 9), atol=0.02, rtol=0)
    assert len(fraction.unique()) > 30_000


@pytest.mark.parametrize("kind", KINDS)
def test_random_draws_depend_only_on_seed_and_step(kind):
    x, y, params = unit(6, 5, 1), unit(6, 5, 2), SwapConfig(kind=kind)
    first = swap(x, y, params, seed=1, step=7)[0]
    torch.rand(100)  # the global stream has no part in it
    assert torch.equal(first, swap(x, y, params, seed=1, step=7)[0])
    assert not torch.equal(first, swap(x, y, params, seed=1, step=8)[0])
    assert not torch.equal(first, swap(x, y, params, seed=2, step=7)[0])


@pytest.mark.parametrize("kind", KINDS)
def test_swapped_features_are_normalized_again_only_if_asked(kind):
    x, y = unit(50, 16, 1), unit(50, 16, 2)
    for side in swap(x, y, SwapConfig(kind=kind, renormalize=True), seed=0, step=0):
        torch.testing.assert_close(side.norm(dim=1), torch.ones(50, dtype=torch.float64))
    for side in swap(x, y, SwapConfig(kind=kind), seed=0, step=0):
        assert float((side.norm(dim=1) - 1).abs().max()) > 0.05


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_follow_the_entries(kind):
    x, y = unit(4, 3, 1).requires_grad_(), unit(4, 3, 2).requires_grad_()
    new_x, _ = swap(x, y, SwapConfig(kind=kind), seed=0, step=0)
    new_x.sum().backward()
    torch.testing.assert_close(x.grad + y.grad, torch.ones_like(x))


@pytest.mark.parametrize(("probability", "slack"), [(0.001, 0.0006), (0.05, 0.005), (0.5, 0.015)])
def test_fraction_of_steps_with_a_swap_is_the_probability(probability, slack):
    params = SwapConfig(kind="hard", probability=probability)
    fraction = sum(swaps_at(params, seed=5, step=step, steps=20_000) for step in range(20_000)) / 20_000
    assert fraction == pytest.approx(probability, abs=slack)


def test_swap_probabilities_0_and_1_mean_never_and_always():
    never, always = (SwapConfig(kind="soft", probability=p) for p in (0.0, 1.0))
    assert not any(swaps_at(never, 0, step, 500) for step in range(500))
    assert all(swaps_at(always, 0, step, 500) for step in range(500))


def test_swap_happens_within_its_window_only():
    params = SwapConfig(kind="hard", probability=1.0, start=0.25, end=0.75)
    assert [step for step in range(100) if swaps_at(params, 0, step, 100)] == list(range(25, 75))


@pytest.mark.parametrize(("start", "end"), [(0.29, 0.57), (0.07, 0.14), (0.0, 0.55), (0.58, 1.0)])
def test_window_starts_and_ends_at_the_very_step_of_its_fraction(start, end):
    params = SwapConfig(kind="hard", probability=1.0, start=start, end=end)
    for steps in (100, 700):
        first, last = round(start * 100) * steps // 100, round(end * 100) * steps // 100
        assert [step for step in range(steps) if swaps_at(params, 0, step, steps)] == list(range(first, last))


@given(pair=sides)
def test_fraction_of_1_leaves_features_exactly_as_they_are(pair):
    x, y = pair
    new_x, new_y = swap_by(x, y, torch.ones_like(x), renormalize=False)
    assert torch.equal(new_x, x)
    assert torch.equal(new_y, y)


def test_no_swap_without_a_kind():
    assert not any(swaps_at(SwapConfig(kind="none", probability=1.0), 0, step, 50) for step in range(50))


def test_steps_of_a_smaller_probability_are_among_those_of_a_larger_one():
    few, many = SwapConfig(kind="hard", probability=0.1), SwapConfig(kind="soft", probability=0.4)
    assert all(swaps_at(many, 0, step, 300) for step in range(300) if swaps_at(few, 0, step, 300))
