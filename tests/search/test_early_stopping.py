"""Early stopping for several objectives: rungs, cohorts, decisions. See also ``test_conformance.py``."""

import numpy as np
import pytest
from hypothesis import given
from search_conformance import POINTS, trial_of

from gaptune.config import EarlyStoppingConfig
from gaptune.pareto.ranking import priority
from gaptune.search.early_stopping import EarlyStopping
from gaptune.search.rungs import Rungs, cohort, least_epoch, rung_epoch, rung_fractions

HALVING = EarlyStoppingConfig(method="asha", reduction_factor=3.0, min_fraction=1 / 9)


def continues(config, points):
    """Whether each candidate continues, if they reach the first rung one after the other."""
    stopping = EarlyStopping(config)
    return [stopping.decide(trial_of(i), 1, tuple(map(float, one))) is None for i, one in enumerate(points)]


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
def test_rungs_are_fractions_of_training_below_one(config, fractions):
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
def test_rung_is_the_first_epoch_at_or_past_its_fraction(fraction, epochs, epoch):
    assert least_epoch(fraction, epochs) == epoch


@pytest.mark.parametrize(
    ("fraction", "every", "epoch"), [(1 / 9, 1, 6), (1 / 9, 10, 10), (1 / 3, 10, 20), (1 / 3, 17, 17), (1 / 3, 40, 40)]
)
def test_rung_is_the_first_report_at_or_past_its_fraction(fraction, every, epoch):
    trial = trial_of(0, epochs=50)
    trial.config["training.evaluate_every"] = every
    assert rung_epoch(fraction, trial) == epoch


def test_trial_with_few_reports_is_judged_at_the_first_one_past_a_rung():
    stopping, first, second = EarlyStopping(HALVING), trial_of(0, epochs=50), trial_of(1, epochs=50)
    for trial in (first, second):
        trial.config["training.evaluate_every"] = 20
    assert stopping.decide(first, 20, (1.0, 1.0)) is None
    assert stopping.decide(second, 20, (0.0, 0.0)) == "rung 33%: rank 2 of 2, only the best 1 may continue"
    assert stopping.decide(first, 40, (-1.0, -1.0)) is None
    assert stopping.decide(first, 50, (-1.0, -1.0)) is None


@given(POINTS)
def test_best_third_of_the_candidates_so_far_continues(points):
    """A candidate continues if and only if fewer than max(1, floor(n/3)) of the n so far are at least as good."""
    for n, went_on in enumerate(continues(HALVING, points), start=1):
        rank = priority(np.array(points[:n], dtype=float), "epsilon_net")[-1]
        assert went_on == (rank < max(1, n // 3))


def test_worse_second_candidate_is_stopped():
    assert continues(HALVING, [(0, 0), (-1, -1), (1, 1), (-2, -2)]) == [True, False, True, False]


def test_trial_is_judged_once_at_each_rung_and_never_between_rungs():
    stopping, first, second = EarlyStopping(HALVING), trial_of(0), trial_of(1)
    stopping.decide(first, 1, (1.0, 1.0))
    stopping.decide(first, 3, (1.0, 1.0))
    assert stopping.decide(second, 1, (2.0, 2.0)) is None
    assert stopping.decide(second, 2, (-1.0, -1.0)) is None
    assert stopping.decide(second, 3, (0.0, 0.0)) == "rung 33%: rank 2 of 2, only the best 1 may continue"
    assert stopping.decide(second, 4, (-9.0, -9.0)) is None


def test_trials_of_different_length_are_compared_at_the_same_fraction():
    stopping = EarlyStopping(HALVING)
    assert stopping.decide(trial_of(0, epochs=100), 34, (1.0, 1.0)) is None
    assert stopping.decide(trial_of(1, epochs=9), 3, (0.0, 0.0)) is not None


def test_bracket_omits_its_first_rungs():
    config = HALVING.model_copy(update={"brackets": 2})
    assert [Rungs(config).bracket(number) for number in range(4)] == [0, 1, 0, 1]
    stopping, trials = EarlyStopping(config), [trial_of(number) for number in range(4)]
    assert stopping.decide(trials[0], 1, (5.0, 5.0)) is None
    assert stopping.decide(trials[2], 1, (0.0, 0.0)) is not None  # the same bracket, at its first rung
    assert stopping.decide(trials[1], 1, (0.0, 0.0)) is None  # the other bracket has no rung there
    assert stopping.decide(trials[1], 3, (1.0, 1.0)) is None
    assert stopping.decide(trials[3], 3, (0.0, 0.0)) is not None


def test_candidate_with_seeds_is_ranked_by_their_mean():
    stopping = EarlyStopping(HALVING, seeds=2)
    one, other = ([trial_of(2 * c + seed, candidate=c) for seed in (0, 1)] for c in (0, 1))
    assert stopping.decide(one[0], 1, (1.0, 1.0)) is None
    assert stopping.decide(one[1], 1, (3.0, 3.0)) is None  # mean 2
    assert stopping.decide(other[0], 1, (9.0, 9.0)) is None  # waits for the other seed
    assert "rank 2 of 2" in stopping.decide(other[1], 1, (-6.0, -6.0))  # mean 1.5


def test_cohorts_are_compared_among_themselves():
    moving = {"schedule": "linear", "tau_start": 0.01, "tau_end": 0.05}
    stopping = EarlyStopping(HALVING)
    assert stopping.decide(trial_of(0), 1, (5.0, 5.0)) is None
    assert stopping.decide(trial_of(1, **moving), 1, (0.0, 0.0)) is None
    assert "rung 11% (moving): rank 2 of 2" in stopping.decide(trial_of(2, **moving), 1, (-1.0, -1.0))


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
def test_trial_whose_tau_still_changes_is_in_a_separate_cohort(params, fraction, expected):
    full = {"tau_start": 0.04, "tau_end": 0.04, "schedule_fraction": 1.0} | params
    flat = {f"temperature.{name}": value for name, value in full.items()}
    assert cohort(HALVING, flat, fraction) == expected
    assert cohort(HALVING.model_copy(update={"schedule_aware": False}), flat, fraction) == ""


def test_random_stopping_ignores_the_objectives():
    config = HALVING.model_copy(update={"method": "random"})
    rng = np.random.default_rng(0)
    values = rng.normal(size=(600, 2))
    went_on = continues(config, values)
    assert went_on == continues(config, -values)
    assert 0.25 < np.mean(went_on) < 0.42
