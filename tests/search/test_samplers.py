"""Tests of single samplers. For tests of all samplers, see ``test_conformance.py``."""

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from search_conformance import CONDITIONAL, GRID, assert_cut_changes_nothing, draw, resumed, run
from support import sweep_config

from gaptune.search.samplers import make_sampler
from gaptune.search.study import Study


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("tpe", optuna.samplers.TPESampler),
        ("nsga2", optuna.samplers.NSGAIISampler),
        ("gp", optuna.samplers.GPSampler),
        ("random", optuna.samplers.RandomSampler),
    ],
)
def test_sampler_name_selects_the_optuna_class(name, kind):
    assert type(make_sampler(sweep_config(search={"sampler": name}).search, 0)) is kind


def test_resumed_generation_has_the_same_parents():
    sweep = sweep_config(search={"sampler": "nsga2", "startup_trials": 4, "seed": 3})
    whole = draw(Study(CONDITIONAL, sweep, "x"), range(30))
    assert sum("parents" in notes for _, _, notes in whole) >= 3
    assert max(notes["generation"] for _, _, notes in whole) >= 3
    again = resumed(sweep, CONDITIONAL, whole[:17])
    assert draw(again, range(17, 30)) == whole[17:]


def test_generations_are_counted_if_a_ledger_has_no_notes():
    sweep = sweep_config(search={"sampler": "nsga2", "startup_trials": 4, "seed": 3})
    whole = draw(Study(CONDITIONAL, sweep, "x"), range(16))
    again = resumed(sweep, CONDITIONAL, [(number, params, {}) for number, params, _ in whole])
    again.ask()
    assert again.notes(16)["generation"] >= 3


@given(cut=st.integers(1, 70), seeds=st.integers(1, 2))
@settings(max_examples=20)
def test_grid_interrupted_at_any_event_draws_each_combination_once(cut, seeds):
    assert_cut_changes_nothing(GRID, sweep_config(search={"sampler": "grid", "seeds": seeds}), cut)


@given(st.sets(st.integers(0, 8), min_size=1))
def test_grid_draws_combinations_missing_from_its_ledger(lost):
    sweep = sweep_config(search={"sampler": "grid"})
    events, _ = run(GRID, sweep)
    left = [event for event in events if event.get("trial") not in lost]
    _, again = run(GRID, sweep, left)
    assert sorted(str(trial.params) for trial in again.trials.values()) == sorted(map(str, GRID.combinations()))
