"""A real CLIP's first steps and long run, on a few pairs."""

import json

import numpy as np
import pytest
from warm import run

from gaptune.config import TrialConfig
from gaptune.paper.theory.clip_runs import LongRun, first_steps, fit_lines, long_run


@pytest.fixture(scope="module")
def config(small_store):
    return TrialConfig.model_validate({"data": {"store": str(small_store)}, "training": {"batch_size": 16}})


@pytest.fixture(scope="module")
def store(small_store):
    from gaptune.data.open import open_store

    return open_store(small_store)


def test_first_steps_give_one_change_per_start_and_the_same_again(config, store):
    changes = first_steps(config, store, starts=3, steps=4)
    assert changes.shape == (3,)
    assert len(set(changes)) == 3
    np.testing.assert_array_equal(changes[:2], first_steps(config, store, starts=2, steps=4))


@pytest.mark.whole
def test_a_long_run_records_gap_and_temperature_of_its_own_pairs(config, store):
    run = long_run(config, store, epochs=5, pairs=64)
    assert run.step.tolist() == [0, 4, 8, 12, 16, 20]
    assert run.tau[0] == pytest.approx(0.07)
    assert run.x.shape == run.y.shape == (64, 64)
    assert run.gap[-1] == pytest.approx(np.linalg.norm(run.x.mean(0) - run.y.mean(0)), rel=1e-5)


@pytest.mark.whole
def test_a_closed_start_has_a_smaller_gap(config, store):
    random, closed = (long_run(config, store, epochs=1, pairs=64, closed_first=first) for first in (False, True))
    assert closed.gap[0] < random.gap[0] / 2


def test_a_gap_that_is_a_line_in_the_papers_form_is_found_to_be_one():
    step = np.geomspace(8, 1e5, 40)
    gap = 0.1 + 2 / np.log(step) ** 2
    fits = fit_lines(LongRun(step, gap, step, step, step))
    best = max(fits, key=lambda fit: fit.r2)
    assert best.form == "Δ against 1/log² t"
    assert best.slope == pytest.approx(2.0)


@pytest.mark.whole
def test_the_commands_print_what_they_find(small_store, tmp_path):
    sweep = tmp_path / "s.yaml"
    sweep.write_text(
        f"data: {{store: {small_store}}}\ntraining: {{batch_size: 16}}\nobjectives:\n"
        "  - {metric: retrieval/mean_r1, reference: 0, ideal: 1}\n  - {metric: geometry/gap, reference: 2, ideal: 0}\n"
    )
    rates = run("theory", "rates").stdout
    assert "log γ against β²" in rates
    assert "NO" not in rates
    found = json.loads(run("theory", "first-steps", "--config", sweep, "--starts", "2", "--json").stdout)
    assert len(found["changes"]) == 2
