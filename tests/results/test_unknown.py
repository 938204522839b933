"""What is not known says why: no NaN, no direction, no share, and no candidate that breaks a constraint unmarked."""

import json
import math
import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from support import made_sweep

from gaptune.api import Sweep
from gaptune.engine.publish import note
from gaptune.ledger import ReportRecord, SweepHeader, SweepRecord, TrialRecord
from gaptune.pareto.objectives import Objective, Objectives
from gaptune.report.content import content
from gaptune.results import Candidate, candidates, summarize
from gaptune.results.compare import compare_sweeps
from gaptune.results.correlation import Correlation, correlations
from gaptune.results.headline import headline
from gaptune.results.history import history
from gaptune.results.importance import importances
from gaptune.results.plots.front import plot_front
from gaptune.results.selection import knee
from gaptune.results.status import progress
from gaptune.results.unknown import Unknown, Why, too_few, varies

RETRIEVAL, GAP = "retrieval/mean_r1", "geometry/gap"
BELOW = {"metric": GAP, "max": 0.3}


def trial(recall=0.5, gap=1.0, **more):
    return {"scores": {RETRIEVAL: recall, GAP: gap, "uniformity/w2": recall - 1}} | more


SCORE = st.sampled_from([0.0, 0.2, 0.2 + 1e-9, 0.5]) | st.floats(0, 1)
TRIALS = st.builds(
    trial,
    recall=SCORE,
    gap=SCORE,
    tau=st.sampled_from([0.05, 0.1]) | st.floats(0.011, 0.29),
    fraction=st.just(0.5) | st.floats(0.3, 1.0),
    state=st.sampled_from(["COMPLETE", "COMPLETE", "COMPLETE", "FAIL", "PRUNED", "RUNNING"]),
    reason=st.just("boom"),
)
ALIKE = st.builds(  # the same scores, the same parameters, or both
    lambda one, count, taus: [one | {"tau": 0.05 + 0.01 * n if taus else 0.05} for n in range(count)],
    TRIALS,
    st.integers(0, 12),
    st.booleans(),
)
SWEEPS = st.lists(TRIALS, max_size=12) | ALIKE
LIMITS = st.sampled_from([[], [BELOW], [{"metric": GAP, "max": -1.0}], [{"metric": "probe/top1", "min": 0.5}]])
UNSAID = re.compile(r"(?<![\w-])-?(nan|NaN|inf|Infinity|None)(?![\w-])")


@pytest.mark.whole
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(trials=SWEEPS, constraints=LIMITS)
def test_no_output_of_any_sweep_shows_an_unknown_value(tmp_path_factory, gaptune, trials, constraints):
    results = tmp_path_factory.mktemp("r")
    record = made_sweep(results / "s", trials, constraints=constraints)
    where = "--results", str(results)

    def said(*words):
        code, out, err = gaptune(*words, *where)
        assert code in (0, None), err
        return out

    told = headline(record, summarize(record), correlations(record))
    texts = [
        said("front", "s"),
        said("importance", "s"),
        said("correlations", "s"),
        said("failures", "s"),
        said("compare", "s"),
        *told,
        note(record),
        json.dumps(content(record, results / "s", mlflow_url="", price=None)["headline"]),
        repr(Sweep(record, results / "s")),
    ]
    texts += [said("show", "s", "0")] if trials else []
    for text in texts:
        assert not UNSAID.search(text), text
        assert "-0.00 " not in text
    found = json.loads(said("front", "s", "--json"), parse_constant=pytest.fail)
    assert all((found[name] is None) == (name in found["unknown"]) for name in ("hypervolume", "knee"))
    others = ("importance", "correlations", "failures")
    by_command = {one: json.loads(said(one, "s", "--json"), parse_constant=pytest.fail) for one in others}
    importance = by_command["importance"]
    said("export", "s", "--to", str(results / "x.csv"))
    json.loads(json.dumps(progress(record)), parse_constant=pytest.fail)

    complete = candidates(record)
    values = {metric: [one.mean(metric) for one in complete] for metric in (RETRIEVAL, GAP)}
    if len(complete) < 5 or not all(map(varies, values.values())):
        assert not any("correlates " in text and GAP in text for text in told)
    params = {str(one.trial.params) for one in complete}
    missing = importance["unknown"]
    for metric in (RETRIEVAL, GAP):
        fractions = [one["fraction"] for one in importance["importance"] if one["objective"] == metric]
        assert bool(fractions) != (metric in missing)
        assert not fractions or (len(complete) >= 8 and len(params) > 1 and varies(values[metric]))
        assert not fractions or sum(fractions) == pytest.approx(1)
    if complete:
        assert not any("is complete (" in text and "no candidate" in text for text in texts)


def test_without_a_feasible_candidate_the_reason_counts_constraints_and_names_the_nearest(tmp_path, gaptune):
    limits = [{"metric": GAP, "max": 0.1}, {"metric": RETRIEVAL, "min": 0.25}]
    trials = [trial(0.2 + k / 100, 1 - k / 100, tau=0.05 + k / 100) for k in range(10)]
    record = made_sweep(tmp_path / "s", trials, constraints=limits)
    expected = (
        "10 candidates are complete, and none is within the constraints: geometry/gap <= 0.1 rules out 10, "
        "retrieval/mean_r1 >= 0.25 rules out 5; nearest is trial 9 with geometry/gap 0.91"
    )
    assert str(summarize(record).unknown) == expected
    assert summarize(record).unknown.why is Why.NONE_FEASIBLE
    assert expected in headline(record, summarize(record), [])[0]
    assert expected in " ".join(gaptune("front", "s", "--results", tmp_path)[1].split())
    assert Sweep(record, tmp_path / "s").why_no_front == expected
    plot_front(record, summarize(record), tmp_path / "f.png")


def test_a_constraint_on_a_missing_metric_is_reported(tmp_path):
    record = made_sweep(tmp_path / "s", [trial()], constraints=[{"metric": "probe/top1", "min": 0.5}])
    assert "probe/top1 >= 0.5 rules out 1 (1 of them without the metric)" in str(summarize(record).unknown)
    assert "nearest" not in str(summarize(record).unknown)


def test_a_candidate_that_breaks_a_constraint_is_marked_everywhere(tmp_path, gaptune):
    trials = [trial(0.1 + k / 50, 0.3 - k / 50, tau=0.05 + k / 100) for k in range(6)] + [trial(0.6, 0.7, tau=0.2)]
    record = made_sweep(tmp_path / "s", trials, constraints=[BELOW])
    sweep = Sweep(record, tmp_path / "s")
    assert sweep.candidates()["feasible"].tolist() == [True] * 6 + [False]
    assert sweep.front()["feasible"].all()
    frame = sweep.frame().set_index("trial")["feasible"]
    assert frame[6] is np.False_ or frame[6] == False  # noqa: E712
    gaptune("export", "s", "--to", tmp_path / "x.parquet", "--results", tmp_path)
    assert pd.read_parquet(tmp_path / "x.parquet").set_index("trial").feasible[6] == False  # noqa: E712
    assert "breaks geometry/gap <= 0.3" in gaptune("show", "s", 6, "--results", tmp_path)[1]
    assert "constraints  met" in gaptune("show", "s", 0, "--results", tmp_path)[1]
    counted = "1 complete candidate breaks the constraint geometry/gap <= 0.3."
    assert counted in headline(record, summarize(record), [])
    assert counted in gaptune("front", "s", "--results", tmp_path)[1]
    assert [one["infeasible"] for one in json.loads(gaptune("compare", "s", "--json", "--results", tmp_path)[1])] == [1]
    plot_front(record, summarize(record), tmp_path / "with.png")
    free = made_sweep(tmp_path / "t", trials)
    plot_front(free, summarize(free), tmp_path / "without.png")
    with Image.open(tmp_path / "with.png") as one, Image.open(tmp_path / "without.png") as other:
        assert one.tobytes() != other.tobytes()


def test_a_trial_that_has_not_ended_has_no_feasibility(tmp_path):
    record = made_sweep(tmp_path / "s", [trial(state="FAIL"), trial(state="RUNNING")], constraints=[BELOW])
    assert Sweep(record, tmp_path).frame()["feasible"].isna().all()


def test_sweeps_without_a_front_are_compared_with_the_reason(tmp_path, gaptune):
    empty = made_sweep(tmp_path / "empty", [trial(state="FAIL", reason="boom")])
    made_sweep(tmp_path / "full", [trial()])
    (standing,) = compare_sweeps([empty])
    assert (standing.hypervolume, standing.unknown.why) == (None, Why.NONE_COMPLETE)
    said = gaptune("compare", "empty", "full", "--results", tmp_path)[1]
    assert "empty has no front: no candidate is complete (trials: 1 FAIL)" in said
    assert "full has no front" not in said
    picture = "--repeats", "--plot", tmp_path / "x.png", "--results", tmp_path
    assert "'empty' has no front to draw: no candidate is complete" in gaptune("compare", "empty", *picture)[2]
    assert "'full' is one sweep with one seed" in gaptune("compare", "full", *picture)[2]
    assert gaptune("compare", "empty", "--plot", tmp_path / "y.png", "--results", tmp_path)[0] in (0, None)


def test_without_a_varying_parameter_the_reason_is_not_too_few_trials(tmp_path, gaptune):
    same = made_sweep(tmp_path / "same", [trial(0.1 + k / 100) for k in range(10)])
    assert {reason.why for reason in importances(same).unknown.values()} == {Why.NOTHING_VARIED}
    said = gaptune("importance", "same", "--results", tmp_path)[1]
    assert "all 10 complete trials have the same parameters" in said
    assert "(1 candidate)" in gaptune("front", "same", "--results", tmp_path)[1]  # of 10 trials that are complete
    flat = made_sweep(
        tmp_path / "flat", [trial(0.2, k / 40, tau=0.02 + k / 200, fraction=0.3 + k / 99) for k in range(40)]
    )
    found = importances(flat)
    assert {metric: reason.why for metric, reason in found.unknown.items()} == {RETRIEVAL: Why.CONSTANT}
    assert {one.objective for one in found} == {GAP}
    few = made_sweep(tmp_path / "few", [trial(k / 9, k / 9, tau=0.02 + k / 99) for k in range(7)])
    assert set(map(str, importances(few).unknown.values())) == {"only 7 candidates are complete, and it takes 8"}


def test_an_unclear_correlation_has_no_direction(tmp_path):
    constant = made_sweep(tmp_path / "s", [trial(0.2, k / 20, tau=0.02 + k / 99) for k in range(20)])
    (found,) = correlations(constant, [(RETRIEVAL, GAP)])
    assert (found.rho, found.direction, found.unknown.why) == (None, None, Why.CONSTANT)
    assert found.sentence().endswith("is not known: retrieval/mean_r1 is the same for all 20 candidates.")
    across = Correlation("a", "b", -0.001, -0.4, 0.4, 9)
    assert across.sentence() == "No clear correlation of a and b (ρ = 0.00, 95% CI -0.40 to 0.40)."
    assert Correlation("a", "b", -0.5, -0.9, -0.1, 9).sentence().startswith("a correlates negatively with b (ρ = -0.50")


def test_one_outlier_among_equals_gives_no_direction(tmp_path):
    trials = [trial(0.2, 0.5, tau=0.02 + k / 99) for k in range(5)] + [trial(0.5, 0.9, tau=0.2)]
    (found,) = correlations(made_sweep(tmp_path / "s", trials), [(RETRIEVAL, GAP)])
    assert found.rho == pytest.approx(1)
    assert found.direction is None  # a third of the draws do not have the one that stands out
    assert found.low == -1


def members(values, maximize):
    objectives = Objectives(Objective(f"m/{index}", up) for index, up in enumerate(maximize))
    record = SweepRecord(header=SweepHeader(objectives=objectives))
    reports = [dict(zip(objectives.metrics, map(float, one), strict=True)) for one in values]
    return record, [Candidate.of(record, [reported(metrics)]) for metrics in reports]


def reported(metrics):
    return TrialRecord(0, 0, {}, {}, "", 0.0, reports=[ReportRecord(1, 1, 1.0, metrics)])


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ([(1, 1)], Why.TOO_FEW),
        ([(0, 1), (1, 0)], Why.TOO_FEW),
        ([(0.3, 0.4)] * 40, Why.ALL_EQUAL),
        ([(0.3, 0.4), (0.3 + 1e-12, 0.4), (0.3, 0.4 + 1e-12)], Why.ALL_EQUAL),
        ([(0, 1), (0, 1), (1, 0)], Why.NO_BEND),
        ([(0, 1), (0.5, 0.5), (1, 0)], Why.NO_BEND),
        ([(0, 1, 1), (1, 0, 0.5), (0.5, 0.5, 0.2)], Why.NO_ENDS),
        ([(1, 0, 0), (0, 1, 0), (0, 0, 1), (0.3, 0.3, 0.3)], Why.NO_BEND),
        ([(1, 0.9, 0), (0.9, 1, 0), (0, 0, 1)], Why.NO_BEND),  # the first two would have the largest sums
    ],
)
def test_a_front_without_a_knee_has_the_reason(values, why):
    bend = knee(*members(values, [True] * len(values[0])))
    assert isinstance(bend, Unknown)
    assert bend.why is why


def test_of_three_objectives_the_knee_is_beyond_the_plane_and_one_that_does_not_vary_is_left_out():
    record, found = members([(1, 0, 0), (0, 1, 0), (0, 0, 1), (0.5, 0.5, 0.4), (0.2, 0.2, 0.7)], [True] * 3)
    assert knee(record, found) is found[3]
    record, found = members([(1, 5, 0), (0.7, 5, 0.6), (0, 5, 1)], [True] * 3)
    assert knee(record, found) is found[1]


@settings(max_examples=60)
@given(st.lists(st.tuples(*[st.integers(0, 20)] * 3), min_size=3, max_size=30, unique=True))
def test_an_end_of_a_front_is_never_its_knee(points):
    table = np.array(points)
    front = [p for p in table if not any((q >= p).all() and (q > p).any() for q in table)]
    record, found = members(front, [True, True, True])
    bend = knee(record, found)
    if bend:
        best = np.max(front, axis=0)
        spread = np.ptp(front, axis=0) > 0
        assert not any(np.array(bend.values)[spread] == best[spread])


def test_history_has_no_hypervolume_before_the_first_feasible_candidate(tmp_path):
    trials = [trial(0.2, 0.9, tau=0.02), trial(0.3, 0.2, tau=0.03)]
    steps = history(made_sweep(tmp_path / "s", trials, constraints=[BELOW]))
    assert steps[0].hypervolume is None
    assert steps[1].hypervolume == pytest.approx(0.3 * 0.9)


def test_reasons_are_clauses():
    assert str(too_few(3, 8)) == "only 3 candidates are complete, and it takes 8"
    assert str(too_few(1, 8)) == "only 1 candidate is complete, and it takes 8"
    assert too_few(0, 8).why is Why.NONE_COMPLETE
    assert not too_few(0, 8)
    assert not varies([])
    assert not varies([math.nan, 0.5])
    assert not varies([0.5, 0.5 + 1e-9])
    assert varies([0.5, 0.5001])
