"""A finished sweep looked at in other ways: objectives, picks, history, correlations, comparison."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from paper_sweep import as_in_the_paper, sweep_record
from PIL import Image
from scipy.stats import spearmanr
from support import Stage

from gaptune.errors import UserError
from gaptune.results import summarize
from gaptune.results.compare import compare_sweeps, plot_fronts
from gaptune.results.correlation import correlations
from gaptune.results.history import history
from gaptune.results.importance import importances
from gaptune.results.picks import knee, pick
from gaptune.results.view import view


def finish(stage, recall, gap, w2=-1.0):
    trial = stage.conductor.next_trial()
    stage.conductor.started(trial.number, "here")
    for epoch in (1, 2):
        scores = {"retrieval/mean_r1": recall, "geometry/gap": gap, "temperature/tau": 0.07, "uniformity/w2": w2}
        stage.conductor.reported(trial.number, epoch, epoch, scores)


@pytest.fixture
def record(tmp_path):
    stage = Stage(tmp_path / "s")
    for recall, gap, w2 in ((0.60, 1.0, -1.3), (0.595, 0.9, -1.1), (0.5, 0.3, -1.2), (0.2, 0.25, -0.9)):
        finish(stage, recall, gap, w2)
    return stage.record


def numbers(members):
    return [member.trial.number for member in members]


def test_a_front_for_other_objectives_is_that_of_the_same_trials(record):
    other = view(record, ["uniformity/w2", "geometry/gap"])
    assert numbers(summarize(other).front) == [3]
    assert math.isnan(summarize(other).hypervolume)  # nobody said from where to where uniformity counts
    assert numbers(summarize(record).front) == [0, 1, 2, 3]


def test_a_constraint_after_the_fact_leaves_the_others(record):
    assert numbers(summarize(view(record, constraints=["geometry/gap<=0.5"])).front) == [2, 3]
    assert numbers(summarize(view(record, constraints=["retrieval/mean_r1>=0.55"])).front) == [0, 1]


@pytest.mark.parametrize(
    ("objectives", "constraints", "message"),
    [
        (["geometry/gap"], [], "two to four"),
        (["geometry/gap", "geometry/gpa"], [], "did you mean 'geometry/gap'"),
        (["geometry/gap", "geometry/gap"], [], "twice"),
        (["geometry/gap", "temperature/tau"], [], "METRIC:max or METRIC:min"),
        ([], ["geometry/gap=0.5"], "METRIC<=VALUE"),
        ([], ["geometry/gap<=low"], "METRIC<=VALUE"),
        ([], ["geometry/gpa<=0.5"], "did you mean 'geometry/gap'"),
    ],
)
def test_what_cannot_be_is_said(record, objectives, constraints, message):
    with pytest.raises(UserError, match=message):
        view(record, objectives, constraints)


def test_the_knee_is_where_little_is_given_up(record):
    assert knee(record, summarize(record).front).trial.number == 2
    assert knee(record, summarize(record).front[:2]) is None


@given(st.lists(st.tuples(st.floats(0.01, 1), st.floats(0.01, 1.9)), min_size=3, max_size=8, unique=True))
def test_no_member_beats_the_knee_in_the_sum_of_scaled_objectives(tmp_path_factory, values):
    stage = Stage(tmp_path_factory.mktemp("s"), budget=len(values))
    for recall, gap in values:
        finish(stage, recall, gap)
    members = summarize(stage.record).front
    bend = knee(stage.record, members)
    if bend is None:
        return
    points = np.array([[member.values[0], -member.values[1]] for member in members])
    scaled = (points - points.min(0)) / np.where(np.ptp(points, axis=0) > 0, np.ptp(points, axis=0), 1)
    assert scaled[numbers(members).index(bend.trial.number)].sum() == pytest.approx(scaled.sum(1).max())


def test_a_preference_picks_the_best_second_among_those_near_the_best_first(record):
    members = summarize(record).front
    assert pick(record, members, "retrieval/mean_r1 within 1%, then uniformity/w2").trial.number == 1
    assert pick(record, members, "retrieval/mean_r1 within 0%, then uniformity/w2").trial.number == 0
    assert pick(record, members, "uniformity/w2 within 40%, then retrieval/mean_r1").trial.number == 1
    assert pick(record, members, "geometry/gap within 25%, then retrieval/mean_r1").trial.number == 2
    with pytest.raises(UserError, match="within P%, then"):
        pick(record, members, "the best one")
    with pytest.raises(UserError, match="no better side"):
        pick(record, members, "temperature/tau within 1%, then geometry/gap")


def test_history_never_falls_and_ends_at_the_fronts_hypervolume(record):
    steps = history(record)
    assert [step.trials for step in steps] == [1, 2, 3, 4]
    assert [step.epochs for step in steps] == [2, 4, 6, 8]
    volumes = [step.hypervolume for step in steps]
    assert volumes == sorted(volumes)
    assert volumes[-1] == pytest.approx(summarize(record).hypervolume)


def test_correlations_are_spearmans_and_their_interval_contains_them():
    record = sweep_record(as_in_the_paper)
    (found,) = correlations(record, [("retrieval/mean_r1", "uniformity/w2")])
    rows = [[trial.last[name] for trial in record.trials.values()] for name in (found.first, found.second)]
    means = np.array(rows).reshape(2, -1, 3).mean(axis=2)
    assert found.rho == pytest.approx(spearmanr(*means).statistic)
    assert found.low <= found.rho <= found.high
    assert correlations(record, [("retrieval/mean_r1", "train/loss")]) == []


def test_importance_is_what_optuna_says_of_the_study_itself(tmp_path):
    stage = Stage(tmp_path / "s", budget=24)
    rng = np.random.default_rng(0)
    for _ in range(24):
        trial = stage.conductor.next_trial()
        stage.conductor.started(trial.number, "here")
        tau = trial.config["temperature.tau_start"]
        for epoch in (1, 2):
            scores = {"retrieval/mean_r1": tau + 0.01 * rng.random(), "geometry/gap": rng.random()}
            stage.conductor.reported(trial.number, epoch, epoch, scores)
    found = {(one.objective, one.knob): one.share for one in importances(stage.record)}
    expected = get_param_importances(
        stage.asker.study, evaluator=PedAnovaImportanceEvaluator(), target=lambda trial: -trial.values[0]
    )
    assert found["retrieval/mean_r1", "temperature.tau_start"] > 0.5
    assert {knob for _, knob in found} == set(expected)
    assert importances(stage.record, "fanova")
    assert importances(stage.record, method="no such family") == []


def test_sweeps_are_compared_in_one_box_and_drawn_together(tmp_path, record):
    other = Stage(tmp_path / "t")
    finish(other, 0.55, 0.2)
    ours, theirs = compare_sweeps([record, other.record])
    assert (ours["front"], ours["on the common front"]) == (4, 2)
    assert (theirs["front"], theirs["on the common front"]) == (1, 1)
    assert theirs["hypervolume"] == pytest.approx(0.55 * 1.8 / 2)
    plot_fronts([record, other.record], tmp_path / "c.png")
    with Image.open(tmp_path / "c.png") as picture:
        assert picture.size[0] > 800
    with pytest.raises(UserError, match="different objectives"):
        compare_sweeps([record, view(other.record, ["uniformity/w2", "geometry/gap"])])
