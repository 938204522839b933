"""A finished sweep looked at in other ways: objectives, picks, history, correlations, comparison."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from optuna.importance import FanovaImportanceEvaluator, PedAnovaImportanceEvaluator, get_param_importances
from paper_sweep import as_in_the_paper, sweep_record
from PIL import Image
from scipy.stats import bootstrap, spearmanr
from support import Stage

from gaptune.errors import UserError
from gaptune.ledger import ReportRecord, SweepHeader, SweepRecord, TrialRecord
from gaptune.pareto.objectives import Objective, Objectives
from gaptune.results import Candidate, candidates, summarize
from gaptune.results.attainment import attainment
from gaptune.results.compare import compare_sweeps
from gaptune.results.correlation import _spearman, correlations
from gaptune.results.failures import unfinished
from gaptune.results.history import history
from gaptune.results.importance import families, importances
from gaptune.results.plots.comparison import plot_attainment, plot_fronts
from gaptune.results.selection import knee, pick
from gaptune.results.unknown import Why
from gaptune.results.view import view


def finish(stage, recall, gap, w2=-1.0):
    trial = stage.orchestrator.next_trial()
    stage.orchestrator.started(trial.number, "here")
    for epoch in (1, 2):
        scores = {"retrieval/mean_r1": recall, "geometry/gap": gap, "temperature/tau": 0.07, "uniformity/w2": w2}
        stage.orchestrator.reported(trial.number, epoch, epoch, scores)


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
    assert summarize(other).hypervolume is None  # nobody said from where to where uniformity counts
    assert numbers(summarize(record).front) == [0, 1, 2, 3]


def test_metrics_of_further_evaluations_can_be_objectives_constraints_and_preferences(record):
    for trial, accuracy in zip(record.trials.values(), (0.1, 0.2, 0.3, 0.4), strict=True):
        trial.last["cifar10/zeroshot/top1"] = accuracy
    other = view(record, ["retrieval/mean_r1", "cifar10/zeroshot/top1"], ["cifar10/zeroshot/top1<=0.3"])
    assert numbers(summarize(other).front) == [0, 1, 2]
    chosen = pick(other, summarize(other).front, "cifar10/zeroshot/top1 within 50%, then retrieval/mean_r1")
    assert chosen.trial.number == 1


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
        (["geometry/gap", "geometry/gpa:max"], [], "did you mean 'geometry/gap'"),
        (["geometry/gap", "probe/top1"], [], "no trial of 's' has probe/top1"),
        ([], ["cifar10/zeroshot/top1>=0.5"], "no trial of 's' has cifar10/zeroshot/top1"),
    ],
)
def test_an_impossible_view_is_refused_with_the_reason(record, objectives, constraints, message):
    with pytest.raises(UserError, match=message):
        view(record, objectives, constraints)


def test_the_knee_is_the_best_trade_off(record):
    assert knee(record, summarize(record).front).trial.number == 2
    assert knee(record, summarize(record).front[:2]).why is Why.TOO_FEW


BOTH = Objectives([Objective("retrieval/mean_r1", True), Objective("geometry/gap", False)])
OBJECTIVES = SweepRecord(header=SweepHeader(objectives=BOTH))
METRICS = st.lists(st.tuples(st.floats(0.01, 1), st.floats(0.01, 1.9)), min_size=3, max_size=8, unique=True)


def members_with(values):
    def one(recall, gap):
        last = ReportRecord(1, 1, 1.0, {"retrieval/mean_r1": recall, "geometry/gap": gap})
        return Candidate([TrialRecord(0, 0, {}, {}, "", 0.0, reports=[last])], BOTH)

    return [one(recall, gap) for recall, gap in values]


def test_a_front_that_bends_inwards_has_no_knee():
    inwards, outwards = [(0.9, 1.0), (0.5, 0.8), (0.4, 0.2)], [(0.9, 1.0), (0.8, 0.4), (0.4, 0.2)]
    assert knee(OBJECTIVES, members_with(inwards)).why is Why.NO_BEND
    assert knee(OBJECTIVES, members_with(outwards)).values == [0.8, 0.4]


def front_of(values):
    """Those of some scores that no other one dominates."""
    return [
        (recall, gap)
        for recall, gap in values
        if not any(r >= recall and g <= gap and (r, g) != (recall, gap) for r, g in values)
    ]


@given(METRICS)
def test_no_member_beats_the_knee_in_the_sum_of_scaled_objectives(values):
    values = front_of([(round(recall, 3), round(gap, 3)) for recall, gap in values])
    bend = knee(OBJECTIVES, members_with(values))
    points = np.array(values) * [1, -1]
    scaled = (points - points.min(0)) / np.where(np.ptp(points, axis=0) > 0, np.ptp(points, axis=0), 1)
    if not bend:
        assert len(values) < 3 or scaled.sum(1).max() <= 1 + 1e-6
        return
    found = scaled[values.index(tuple(bend.values))].sum()
    assert found == pytest.approx(scaled.sum(1).max())


@given(METRICS, st.floats(0.01, 100), st.floats(0.01, 100))
def test_the_knee_does_not_depend_on_units(values, first, second):
    values = front_of([(round(recall, 2), round(gap, 2)) for recall, gap in values])
    bend = knee(OBJECTIVES, members_with(values))
    again = knee(OBJECTIVES, members_with([(recall * first, gap * second) for recall, gap in values]))
    if not bend or not again:
        assert bend == again
        return
    points = np.array([bend.values, [again.values[0] / first, again.values[1] / second]])
    span = np.ptp(np.array(values), axis=0)
    sums = (points / np.where(span > 0, span, 1) * [1, -1]).sum(axis=1)
    assert sums[0] == pytest.approx(sums[1], abs=1e-6)  # the same member, or one that is as good


@given(METRICS, st.integers(0, 100))
def test_a_pick_is_within_the_tolerance_and_the_best_in_the_second_metric(values, percent):
    members = members_with(values)
    chosen = pick(OBJECTIVES, members, f"retrieval/mean_r1 within {percent}%, then geometry/gap")
    best = max(recall for recall, _ in values)
    limit = best - percent / 100 * best
    assert chosen.values[0] >= limit
    assert chosen.values[1] == min(gap for recall, gap in values if recall >= limit)


def test_a_preference_picks_the_best_second_among_those_near_the_best_first(record):
    members = summarize(record).front
    assert pick(record, members, "retrieval/mean_r1 within 1%, then uniformity/w2").trial.number == 1
    assert pick(record, members, "retrieval/mean_r1 within 0%, then uniformity/w2").trial.number == 0
    assert pick(record, members, "uniformity/w2 within 40%, then retrieval/mean_r1").trial.number == 1
    assert pick(record, members, "geometry/gap within 25%, then retrieval/mean_r1").trial.number == 2
    assert pick(record, members, "geometry/gap").trial.number == 3
    with pytest.raises(UserError, match="no trial of 's' has train/loss"):
        pick(record, members, "train/loss")
    with pytest.raises(UserError, match="within P%, then"):
        pick(record, members, "the best one")
    with pytest.raises(UserError, match="expected a percentage from 0 to 100, got 101"):
        pick(record, members, "geometry/gap within 101%, then retrieval/mean_r1")
    with pytest.raises(UserError, match="no default direction"):
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
    (missing,) = correlations(record, [("retrieval/mean_r1", "train/loss")])
    assert (missing.rho, missing.low, missing.high) == (None, None, None)
    assert missing.unknown.why is Why.NOT_MEASURED
    (constant,) = correlations(record, [("retrieval/mean_r1", "retrieval/mean_r1")])
    assert (constant.rho, constant.low, constant.high) == pytest.approx((1, 1, 1))


@given(arrays(np.float64, (2, 12), elements=st.integers(0, 4).map(float)), st.integers(0, 2**32 - 1))
def test_a_draws_correlation_is_scipys_of_the_points_that_were_drawn(values, seed):
    drawn = np.random.default_rng(seed).integers(12, size=12)
    (found,) = _spearman(np.bincount(drawn, minlength=12)[None], *values)
    chosen = values[:, drawn]
    if np.ptp(chosen, axis=1).min() > 0:
        assert found == pytest.approx(spearmanr(*chosen).statistic)
    else:
        assert np.isnan(found)


@pytest.mark.whole
def test_an_interval_is_as_wide_as_that_of_scipys_bootstrap():
    record = sweep_record(as_in_the_paper)
    (found,) = correlations(record, [("retrieval/mean_r1", "geometry/gap")])
    means = [[one.mean(name) for one in candidates(record)] for name in (found.first, found.second)]
    drawn = bootstrap(
        means, lambda x, y: spearmanr(x, y).statistic, paired=True, vectorized=False, method="percentile", rng=0
    ).confidence_interval
    assert (found.low, found.high) == pytest.approx((drawn.low, drawn.high), abs=0.05)


@pytest.mark.whole
def test_importance_is_what_optuna_says_of_the_study_itself(tmp_path):
    stage = Stage(tmp_path / "s", num_candidates=24)
    rng = np.random.default_rng(0)
    for _ in range(24):
        trial = stage.orchestrator.next_trial()
        stage.orchestrator.started(trial.number, "here")
        tau = trial.config["temperature.tau_start"]
        for epoch in (1, 2):
            scores = {"retrieval/mean_r1": tau + 0.01 * rng.random(), "geometry/gap": rng.random()}
            stage.orchestrator.reported(trial.number, epoch, epoch, scores)
    found = {(one.objective, one.parameter): one.fraction for one in importances(stage.record)}
    assert found["retrieval/mean_r1", "temperature.tau_start"] > 0.5
    for index, (metric, sign) in enumerate((("retrieval/mean_r1", -1), ("geometry/gap", 1))):

        def target(trial, index=index, sign=sign):
            return sign * trial.values[index]

        study = stage.study.study
        expected = get_param_importances(study, evaluator=PedAnovaImportanceEvaluator(), target=target)
        assert {
            parameter: fraction for (name, parameter), fraction in found.items() if name == metric
        } == pytest.approx(expected)
        expected = get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0), target=target)
        by_fanova = {
            one.parameter: one.fraction for one in importances(stage.record, "fanova") if one.objective == metric
        }
        assert by_fanova == pytest.approx(expected)


def test_importance_within_a_family_leaves_out_what_does_not_vary_there(tmp_path):
    stage = Stage(tmp_path / "s", num_candidates=40)
    for number in range(40):
        trial = stage.orchestrator.next_trial()
        stage.finish(trial.number, recall=trial.config["temperature.tau_start"], gap=number / 40)
    assert families(stage.record) == ["FLT", "TS"]
    found = importances(stage.record, method="FLT")
    count = sum(trial.method == "FLT" for trial in stage.record.trials.values())
    assert {(one.parameter, one.fraction, one.trials) for one in found} == {("temperature.tau_start", 1.0, count)}
    nobody = importances(stage.record, method="no such family")
    assert nobody == []
    assert {reason.why for reason in nobody.unknown.values()} == {Why.NOT_MEASURED}


def test_a_view_with_other_objectives_is_compared_over_the_range_of_its_trials(tmp_path, record):
    other = Stage(tmp_path / "t")
    finish(other, 0.55, 0.2, w2=-0.8)
    chosen = ["uniformity/w2", "geometry/gap"]
    ours, theirs = compare_sweeps([view(record, chosen), view(other.record, chosen)])
    assert theirs.hypervolume == pytest.approx(0.9)  # the best uniformity of all; a gap of 0.2 in its own box, 2 to 0
    assert 0 < ours.hypervolume < 1


def test_bands_are_what_fractions_of_the_repetitions_attain(tmp_path, record):
    other = Stage(tmp_path / "t")
    finish(other, 0.55, 0.2)
    some, most = attainment([record, other.record], fractions=(0.5, 1.0))
    assert some.points.tolist() == [[0.55, 0.2], [0.595, 0.9], [0.6, 1.0]]
    assert most.points.tolist() == [[0.2, 0.25], [0.5, 0.3], [0.55, 0.9]]
    plot_attainment([record, other.record], tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.size[0] > 800


def test_each_seed_of_a_sweep_is_a_repeat_and_one_seed_is_none(record):
    median, full = attainment([sweep_record(as_in_the_paper)], fractions=(0.5, 1.0))
    assert median.repeats == 3
    assert median.points[:, 0].max() > full.points[:, 0].max()
    with pytest.raises(UserError, match="needs repeats"):
        attainment([record])
    with pytest.raises(UserError, match="needs two objectives, not 3"):
        attainment([view(record, ["uniformity/w2", "geometry/gap", "retrieval/mean_r1"])] * 2)


def test_trials_without_outcome_are_grouped_by_reason_failures_first(tmp_path):
    stage = Stage(tmp_path / "s")
    for reason in ("non-finite: loss", "out of memory: GPU", "non-finite: features"):
        stage.orchestrator.failed(stage.orchestrator.next_trial().number, reason)
    finish(stage, 0.5, 0.5)
    found = [(one.reason, one.trials, one.example) for one in unfinished(stage.record)]
    assert found == [
        ("non-finite", [0, 2], "non-finite: loss"),
        ("out of memory", [1], "out of memory: GPU"),
    ]


def test_sweeps_are_compared_with_common_corners_and_plotted_together(tmp_path, record):
    other = Stage(tmp_path / "t")
    finish(other, 0.55, 0.2)
    ours, theirs = compare_sweeps([record, other.record])
    assert (ours.front, ours.common) == (4, 2)
    assert (theirs.front, theirs.common) == (1, 1)
    assert theirs.hypervolume == pytest.approx(0.55 * 1.8 / 2)
    plot_fronts([record, other.record], tmp_path / "c.png")
    with Image.open(tmp_path / "c.png") as picture:
        assert picture.size[0] > 800
    with pytest.raises(UserError, match="different objectives"):
        compare_sweeps([record, view(other.record, ["uniformity/w2", "geometry/gap"])])
