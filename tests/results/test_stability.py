"""The bootstrap share in which candidates stay on the front."""

import itertools

import numpy as np
import pytest
from support import Stage, sweep_config

from gaptune.results import candidates
from gaptune.results.stability import front_fractions
from gaptune.results.unknown import Why


def confirmed(tmp_path, points, constraints=()):
    """Candidates with the given (recall, gap) for each seed."""
    seeds = len(points[0])
    sweep = sweep_config(search={"seeds": seeds}, constraints=list(constraints))
    stage = Stage(tmp_path / "s", sweep=sweep, num_candidates=len(points))
    for recall, gap in itertools.chain(*points):
        stage.finish(stage.orchestrator.next_trial().number, recall=recall, gap=gap)
    return stage.record, candidates(stage.record)


def test_what_is_best_on_every_seed_is_always_on_the_front_and_what_is_beaten_never(tmp_path):
    record, found = confirmed(tmp_path, [[(0.5, 1.0), (0.7, 0.8)], [(0.4, 1.1), (0.6, 0.9)]])
    assert front_fractions(record, found).tolist() == [1.0, 0.0]


def test_two_seeds_that_disagree_give_the_fractions_of_their_draws(tmp_path):
    """Seed 0 prefers the first by 0.2, seed 1 the second by 0.1: only (1, 1), a quarter of the draws, prefers it."""
    record, found = confirmed(tmp_path, [[(0.6, 1.0), (0.4, 1.0)], [(0.4, 1.0), (0.5, 1.0)]])
    assert front_fractions(record, found, draws=8000) == pytest.approx([0.75, 0.25], abs=0.02)


def test_seeds_are_paired(tmp_path):
    """Seeds differ far more than candidates do; drawn independently, the second would often come out ahead."""
    noise = np.linspace(0.1, 0.8, 5)
    record, found = confirmed(tmp_path, [[(r + 0.01, 1.0) for r in noise], [(r, 1.0) for r in noise]])
    assert front_fractions(record, found).tolist() == [1.0, 0.0]


def test_a_constraint_is_kept_by_the_means_of_each_draw(tmp_path):
    limit = {"metric": "geometry/gap", "max": 0.9}
    record, found = confirmed(tmp_path, [[(0.9, 0.8), (0.9, 1.2)], [(0.1, 0.5), (0.1, 0.5)]], [limit])
    assert front_fractions(record, found, draws=8000) == pytest.approx([0.25, 1.0], abs=0.02)


def test_with_one_seed_stability_is_unknown(tmp_path):
    record, found = confirmed(tmp_path, [[(0.5, 1.0)], [(0.4, 1.1)]])
    assert front_fractions(record, found).why is Why.ONE_SEED
    assert front_fractions(record, []).why is Why.NONE_COMPLETE
