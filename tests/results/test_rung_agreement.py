"""How well rungs ranked: Kendall's τ between the order at a rung and the order at the end."""

import pytest
from scipy.stats import kendalltau
from support import Stage, sweep_config

from gaptune.results.rung_agreement import rank_rungs
from gaptune.results.unknown import Why


def stage(tmp_path, *, epochs=6, rule="none", seeds=1, every=1, **stopping):
    sweep = sweep_config(
        training={"epochs": epochs, "evaluate_every": every},
        search={"seeds": seeds},
        early_stopping={"method": rule, "min_fraction": 1 / 6, "reduction_factor": 3.0, **stopping},
    )
    return Stage(tmp_path / "s", sweep=sweep, num_candidates=50)


def train(stage, early, late, params=None):
    """A trial whose scores are those of ``early`` until its last epoch; one number, on both objectives alike."""
    trial = stage.orchestrator.next_trial()
    trial.config.update(params or {"temperature.schedule": "constant"})
    stage.orchestrator.started(trial.number, "here")
    every = stage.sweep.training.evaluate_every
    for epoch in range(every, 7, every):
        value = late if epoch == 6 else early
        stage.orchestrator.reported(trial.number, epoch, epoch, {"retrieval/mean_r1": value, "geometry/gap": 1 - value})


def test_rungs_that_rank_as_the_end_does_have_tau_one(tmp_path):
    sweep = stage(tmp_path)
    for value in (0.1, 0.5, 0.3, 0.4, 0.2):
        train(sweep, value / 2, value)
    found = rank_rungs(sweep.record)
    assert [(rung.fraction, rung.count) for rung in found] == [(pytest.approx(1 / 6), 5), (pytest.approx(1 / 2), 5)]
    assert [rung.kendall for rung in found] == pytest.approx([1, 1])
    assert not any(rung.blind for rung in found)


def test_rung_without_a_report_is_ranked_by_the_next_one(tmp_path):
    sweep = stage(tmp_path, every=2)
    for value in (0.1, 0.5, 0.3, 0.4, 0.2):
        train(sweep, value / 2, value)
    assert [rung.kendall for rung in rank_rungs(sweep.record)] == pytest.approx([1, 1])


def test_rungs_that_rank_the_other_way_round_are_blind(tmp_path):
    sweep = stage(tmp_path)
    for value in (0.1, 0.5, 0.3, 0.4, 0.2):
        train(sweep, 1 - value, value)
    assert all(rung.kendall == pytest.approx(-1) and rung.blind for rung in rank_rungs(sweep.record))


def test_it_is_kendalls_tau_b_of_the_layers(tmp_path):
    early, late = [0.3, 0.1, 0.4, 0.2, 0.5, 0.2], [0.2, 0.1, 0.5, 0.4, 0.3, 0.3]
    sweep = stage(tmp_path)
    for first, last in zip(early, late, strict=True):
        train(sweep, first, last)
    assert rank_rungs(sweep.record)[0].kendall == pytest.approx(kendalltau(early, late).statistic)


def test_few_candidates_are_never_called_blind(tmp_path):
    sweep = stage(tmp_path)
    for value in (0.1, 0.5, 0.3, 0.4):
        train(sweep, 1 - value, value)
    assert not any(rung.blind for rung in rank_rungs(sweep.record))


def test_one_rank_only_says_nothing(tmp_path):
    sweep = stage(tmp_path)
    for _ in range(5):
        train(sweep, 0.5, 0.5)
    found = rank_rungs(sweep.record)
    assert all(rung.kendall is None and not rung.blind for rung in found)
    assert {rung.unknown.why for rung in found} == {Why.CONSTANT}


def test_trials_whose_tau_has_far_to_go_are_looked_at_apart(tmp_path):
    sweep = stage(tmp_path)
    moving = {
        "temperature.schedule": "linear",
        "temperature.tau_start": 0.01,
        "temperature.tau_end": 0.2,
        "temperature.schedule_fraction": 1.0,
    }
    for value in (0.1, 0.2, 0.3, 0.4, 0.5):
        train(sweep, value, value)
        train(sweep, 1 - value, value, moving)
    found = {(round(rung.fraction, 2), rung.cohort): rung.kendall for rung in rank_rungs(sweep.record)}
    assert found == pytest.approx({(0.17, ""): 1, (0.17, "moving"): -1, (0.5, ""): 1, (0.5, "moving"): -1})


def test_stopped_trials_are_not_counted(tmp_path):
    sweep = stage(tmp_path, rule="asha")
    for value in (0.5, 0.1, 0.2, 0.3):
        train(sweep, value, value)
    assert [rung.count for rung in rank_rungs(sweep.record)] == [1, 1]
