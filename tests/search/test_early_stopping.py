"""Early stopping for several objectives: who goes on, and that nothing but the scores decides it."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gaptune.config import EarlyStoppingConfig
from gaptune.search.early_stopping import Stopper
from gaptune.search.rungs import cohort, rung_epoch, rung_fractions

HALVING = EarlyStoppingConfig(method="asha", reduction_factor=3.0, min_fraction=1 / 9)
points = st.lists(st.tuples(st.integers(-5, 5), st.integers(-5, 5)), min_size=1, max_size=30)


def decisions(config, values, *, epochs=9, epoch=1):
    stopper = Stopper(config)
    return [
        stopper.decide(number, number, epoch, epochs, tuple(map(float, point))) is None
        for number, point in enumerate(values)
    ]


@pytest.mark.parametrize(
    ("config", "fractions"),
    [
        ({"min_fraction": 1 / 9, "reduction_factor": 3.0}, [1 / 9, 1 / 3]),
        ({"min_fraction": 0.25, "reduction_factor": 2.0}, [0.25, 0.5]),
        ({"min_fraction": 0.5, "reduction_factor": 4.0}, [0.5]),
        ({"min_fraction": 0.1, "reduction_factor": 10.0}, [0.1]),
        ({"min_fraction": 1 / 49, "reduction_factor": 7.0}, [1 / 49, 1 / 7]),
        ({"min_fraction": 1e-3, "reduction_factor": 10.0}, [0.001, 0.01, 0.1]),
    ],
)
def test_rungs_are_shares_of_training_below_the_whole(config, fractions):
    assert rung_fractions(EarlyStoppingConfig(**config)) == pytest.approx(fractions)


@pytest.mark.parametrize(
    ("fraction", "epochs", "epoch"),
    [
        (1 / 9, 9, 1),
        (1 / 3, 9, 3),
        (1 / 9, 6, 1),
        (1 / 3, 6, 2),
        (1 / 3, 100, 34),
        (5 / 6, 6, 5),
        (0.29, 100, 29),
        (0.07, 100, 7),
    ],
)
def test_a_rung_is_the_first_epoch_at_or_past_its_share(fraction, epochs, epoch):
    assert rung_epoch(fraction, epochs) == epoch


@given(points)
def test_exactly_the_best_floor_n_over_eta_of_those_that_came_before_go_on(values):
    """A trial goes on iff fewer than max(1, floor(n/3)) of the n so far are not behind it."""
    from gaptune.pareto.ranking import priority

    for n, went_on in enumerate(decisions(HALVING, values), start=1):
        rank = priority(np.array(values[:n], dtype=float), "epsilon_net")[-1]
        assert went_on == (rank < max(1, n // 3))


def test_the_first_to_come_goes_on_and_a_worse_second_does_not():
    assert decisions(HALVING, [(0, 0), (-1, -1), (1, 1), (-2, -2)]) == [True, False, True, False]


@given(points, st.integers(1, 5), st.integers(-9, 9))
def test_scaling_and_shifting_an_objective_changes_no_decision(values, scale, shift):
    other = [(x * scale + shift, y) for x, y in values]
    assert decisions(HALVING, values) == decisions(HALVING, other)


@pytest.mark.parametrize("rule", ["epsilon_net", "crowding", "hypervolume"])
@given(values=points)
def test_a_newcomer_that_dominates_all_before_it_always_goes_on(rule, values):
    best = (max(x for x, _ in values) + 1, max(y for _, y in values) + 1)
    config = HALVING.model_copy(update={"priority": rule})
    assert decisions(config, [*values, best])[-1]


def test_a_missing_objective_is_stopped_with_the_reason_even_when_it_is_the_first():
    stopper = Stopper(HALVING)
    assert "missing or not a number" in stopper.decide(0, 0, 1, 9, (1.0, math.nan))
    assert stopper.decide(1, 1, 1, 9, (0.0, 0.0)) is None  # a NaN beats nobody


def test_a_missing_objective_does_not_count_among_those_of_a_rung():
    values = [(float(value), float(value)) for value in (6, 5, 4, 3, 2, 1)]
    holes = [(math.nan, 1.0)] * 4
    assert decisions(HALVING, [*holes, *values])[4:] == decisions(HALVING, values)


def test_a_trial_at_its_full_budget_is_never_stopped():
    assert decisions(HALVING, [(1, 1), (0, 0)], epoch=9) == [True, True]


def test_between_rungs_nothing_is_decided_and_each_rung_is_decided_once():
    stopper = Stopper(HALVING)
    stopper.decide(0, 0, 1, 9, (1.0, 1.0))
    stopper.decide(0, 0, 3, 9, (1.0, 1.0))
    assert stopper.decide(1, 1, 1, 9, (2.0, 2.0)) is None
    assert stopper.decide(1, 1, 2, 9, (-1.0, -1.0)) is None
    assert "rung 33%: rank 2 of 2, the best 1 go on" in stopper.decide(1, 1, 3, 9, (0.0, 0.0))
    assert stopper.decide(1, 1, 4, 9, (-9.0, -9.0)) is None


def test_trials_of_different_length_meet_at_the_same_share():
    stopper = Stopper(HALVING)
    assert stopper.decide(0, 0, 34, 100, (1.0, 1.0)) is None
    assert stopper.decide(1, 1, 3, 9, (0.0, 0.0)) is not None


def test_a_bracket_leaves_out_its_first_rungs():
    config = HALVING.model_copy(update={"brackets": 2})
    stopper = Stopper(config)
    assert [stopper.bracket(number) for number in range(4)] == [0, 1, 0, 1]
    assert stopper.decide(0, 0, 1, 9, (5.0, 5.0)) is None
    assert stopper.decide(2, 2, 1, 9, (0.0, 0.0)) is not None  # the same bracket, at its first rung
    assert stopper.decide(1, 1, 1, 9, (0.0, 0.0)) is None  # the other bracket has no rung there
    assert stopper.decide(1, 1, 3, 9, (1.0, 1.0)) is None
    assert stopper.decide(3, 3, 3, 9, (0.0, 0.0)) is not None


def test_seeds_reach_a_rung_together_with_their_mean():
    stopper = Stopper(HALVING, seeds=2)
    assert stopper.decide(0, 0, 1, 9, (1.0, 1.0)) is None
    assert stopper.decide(0, 1, 1, 9, (3.0, 3.0)) is None  # mean 2
    assert stopper.decide(1, 2, 1, 9, (9.0, 9.0)) is None  # alone it decides nothing
    assert "rank 2 of 2" in stopper.decide(1, 3, 1, 9, (-6.0, -6.0))  # mean 1.5


def test_cohorts_are_compared_among_themselves():
    stopper = Stopper(HALVING)
    assert stopper.decide(0, 0, 1, 9, (5.0, 5.0)) is None
    assert stopper.decide(1, 1, 1, 9, (0.0, 0.0), "moving") is None
    assert "rung 11% (moving): rank 2 of 2" in stopper.decide(2, 2, 1, 9, (-1.0, -1.0), "moving")


@pytest.mark.parametrize(
    ("params", "fraction", "expected"),
    [
        ({"schedule": "learned"}, 0.1, ""),
        ({"schedule": "constant", "tau_start": 0.01, "tau_end": 0.2}, 0.1, ""),
        ({"schedule": "linear", "tau_start": 0.01, "tau_end": 0.05}, 0.1, "moving"),
        ({"schedule": "linear", "tau_start": 0.05, "tau_end": 0.01}, 0.9, "moving"),
        ({"schedule": "linear", "tau_start": 0.04, "tau_end": 0.05}, 0.1, ""),
        ({"schedule": "cosine", "tau_start": 0.01, "tau_end": 0.05, "schedule_fraction": 0.5}, 0.5, ""),
        ({"schedule": "cosine", "tau_start": 0.01, "tau_end": 0.05, "schedule_fraction": 0.5}, 0.4, "moving"),
    ],
)
def test_a_trial_whose_tau_still_has_far_to_go_is_of_its_own_cohort(params, fraction, expected):
    full = {"tau_start": 0.04, "tau_end": 0.04, "schedule_fraction": 1.0} | params
    flat = {f"temperature.{name}": value for name, value in full.items()}
    assert cohort(HALVING, flat, fraction) == expected
    assert cohort(HALVING.model_copy(update={"schedule_aware": False}), flat, fraction) == ""


def test_random_stops_the_same_shares_whatever_the_scores():
    config = HALVING.model_copy(update={"method": "random"})
    rng = np.random.default_rng(0)
    values = rng.normal(size=(600, 2))
    went_on = decisions(config, values)
    assert went_on == decisions(config, -values)
    assert 0.25 < np.mean(went_on) < 0.42


@given(points)
def test_the_same_reports_give_the_same_decisions(values):
    assert decisions(HALVING, values) == decisions(HALVING, values)
