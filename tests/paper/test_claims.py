"""Claims are judged with an error rate that is kept, and not at all where what they need is missing."""

import math
import os
import runpy
from pathlib import Path

import numpy as np
import pytest
from paper_sweep import as_in_the_paper, sweep_record
from scipy.stats import false_discovery_control, ttest_rel

from gaptune.paper.claim_tests import above, falls, follows_more, holm, peak, rises
from gaptune.paper.claims import claims

FULL = os.environ.get("GAPTUNE_SOAK") == "full"
SIMULATION = runpy.run_path(str(Path(__file__).resolve().parents[2] / "benchmarks/claim_errors.py"))
GAP_OF_SLRT = "the gap of SLRT is below the learned baseline's"
FALLS, PEAK = "the gap falls as a fixed τ rises", "retrieval is an inverted U in a fixed τ"


def judged(scores, **how):
    return {claim.text: claim for claim in claims(sweep_record(scores, **how))}


def changed(**by_method):
    """The made-up sweep, but for some metrics of some methods: METHOD=function of (scores, parameters, seed)."""

    def scores(params, seed):
        found = as_in_the_paper(params, seed)
        change = by_method.get(params["method"])
        return found | change(found, params, seed) if change else found

    return scores


def same_as_the_baseline(found, params, seed):
    return as_in_the_paper({"method": "Baseline"}, seed)


@pytest.mark.whole
@pytest.mark.parametrize("null", SIMULATION["NULLS"], ids=lambda null: null.__name__)
@pytest.mark.parametrize("noise", SIMULATION["NOISES"])
def test_a_false_claim_holds_in_at_most_6_percent(null, noise):
    draws = {"flat": 150, "family": 100}.get(null.__name__, 500) * (10 if FULL else 1)
    for seeds in SIMULATION["SEEDS"] if FULL else (3,):
        wrong = SIMULATION["errors"](null, noise, seeds, draws)
        assert wrong <= 0.055 + 3 * (0.05 * 0.95 / draws) ** 0.5


@pytest.mark.parametrize("seeds", [2, 3, 4, 5])
def test_equal_differences_are_as_sure_as_their_signs(seeds):
    base = np.linspace(0.3, 0.4, seeds)
    for step in (0.1, 1e-3, 1 / 3):
        assert above(base + step, base) == 0.5**seeds
        assert above(base, base + step) == 1.0
    assert above(base, base) == 1.0
    assert above(base * (1 + 1e-8), base) == 1.0  # float32's rounding is no difference


def test_differences_that_vary_are_weighed_by_t():
    one, other = np.array([0.31, 0.35, 0.4]), np.array([0.3, 0.32, 0.35])
    assert above(one, other) == pytest.approx(float(ttest_rel(one, other, alternative="greater").pvalue))


def test_a_method_that_is_the_baseline_is_not_shown_to_be_better():
    found = judged(changed(SLRT=same_as_the_baseline))
    assert found[GAP_OF_SLRT].verdict == "not shown"
    assert found[GAP_OF_SLRT].p == 1.0


def test_equal_differences_do_not_hold_with_three_seeds_and_hold_with_ten():
    def lower(found, params, seed):
        base = as_in_the_paper({"method": "Baseline"}, seed)
        return base | {"geometry/gap": base["geometry/gap"] - 0.1}

    assert judged(changed(SLRT=lower))[GAP_OF_SLRT].verdict == "not shown"
    assert judged(changed(SLRT=lower), seeds=10)[GAP_OF_SLRT].verdict == "holds"


@pytest.mark.parametrize("seeds", [1, 2])
def test_nothing_holds_with_fewer_than_three_seeds(seeds):
    found = judged(as_in_the_paper, seeds=seeds).values()
    assert {claim.verdict for claim in found} == {"not shown", "does not hold"}
    assert all(claim.p is None and claim.corrected is None for claim in found)


@pytest.mark.parametrize("value", [math.nan, None])
def test_a_claim_with_a_missing_metric_is_not_run_and_names_the_trial(value):
    def broken(found, params, seed):
        return {"geometry/gap": value} if seed == 1 else {}

    def gone(params, seed):
        found = changed(SLRT=broken)(params, seed)
        return {name: each for name, each in found.items() if each is not None}

    claim = judged(gone)[GAP_OF_SLRT]
    assert (claim.verdict, claim.p) == ("not run", None)
    assert "geometry/gap of SLRT" in claim.evidence
    assert "(trial " in claim.evidence
    assert judged(gone)["the gap of TS S3 is below the learned baseline's"].verdict == "holds"


@pytest.mark.parametrize(
    ("method", "texts"),
    [
        ("SLRT", [GAP_OF_SLRT, "retrieval of SLRT is above the learned baseline's"]),
        ("Baseline", [GAP_OF_SLRT, "a fixed τ above the baseline's final τ has the smaller gap"]),
        ("FLT", [FALLS, PEAK, "the gap of FLT 0.1 is below the learned baseline's"]),
        ("HS", ["HS in every step (p = 1) collapses: retrieval below half of the baseline's"]),
    ],
)
def test_a_method_that_is_missing_is_not_run(method, texts):
    found = judged(as_in_the_paper, leave_out=(method,))
    for text in texts:
        assert found[text].verdict == "not run"
        assert f"no completed {method}" in found[text].evidence


@pytest.mark.parametrize("swapped", [(2, 0, 0), (0, 0, 0), (4, 2, 0)])
def test_a_swap_that_the_coins_never_gave_is_not_run(swapped):
    def coins(found, params, seed):
        return {"train/swapped_fraction": swapped[seed] / 2000} if params.get("swap.probability") == 0.001 else {}

    found = judged(changed(HS=coins))
    for text in ("the gap of {} is below the learned baseline's", "retrieval of {} is above the learned baseline's"):
        claim = found[text.format("HS 0.001")]
        assert claim.verdict == "not run"
        assert ", ".join(map(str, swapped)) in claim.evidence
        assert found[text.format("SS 0.001")].verdict == "holds"


def test_a_fall_that_goes_flat_is_a_fall_though_its_means_rise():
    noise = np.random.default_rng(0).normal(size=(7, 3))
    means = np.array([1.0, 0.8, 0.5, 0.3, 0.1, 0.05, 0.05])
    for row in range(20):
        gaps = means[:, None] + 0.003 * np.roll(noise, row, axis=0)
        assert rises(gaps) == []
        assert falls(gaps) < 0.001


def test_a_peak_stands_out_above_both_ends():
    noise = 0.003 * np.random.default_rng(0).normal(size=(7, 5))
    hill = np.array([0.1, 0.3, 0.5, 0.6, 0.5, 0.3, 0.1])[:, None] + noise
    assert peak(hill)[0] in (1, 2, 3, 4, 5)
    assert peak(hill)[1] < 0.01
    assert peak(np.sort(hill, axis=0))[1] > 0.05
    assert peak(np.full((5, 3), 0.4)) == (1, 1.0)


def test_what_accuracy_follows_is_stated_only_if_it_is_clear():
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=(2, 21))
    assert follows_more(one + 0.1 * rng.normal(size=21), one, other)[2] < 0.001
    assert follows_more(other, one, other)[2] > 0.99
    assert follows_more(one + other, one, one)[2] == 0.5
    assert all(math.isnan(each) for each in follows_more(np.ones(21), one, other))
    constant = {method: lambda found, params, seed: {"zeroshot/top1": 0.1} for method in ("Baseline", "FLT")}
    everywhere = dict.fromkeys(("TS S0", "TS S1", "TS S2", "TS S3", "TR softplus", "TR exp/s", "SLRT", "HS", "SS"))
    found = judged(changed(**constant, **dict.fromkeys(everywhere, constant["FLT"])))
    assert found["zero-shot follows uniformity rather than the gap"].verdict == "not run"


def test_p_is_corrected_within_each_family():
    ps = [0.01, 0.04, 0.03, 0.005]
    assert holm(ps) == pytest.approx([0.03, 0.06, 0.06, 0.02])  # Holm 1979
    assert holm([]) == []
    assert all(ours >= theirs for ours, theirs in zip(holm(ps), false_discovery_control(ps), strict=True))
    found = list(judged(as_in_the_paper).values())
    for family in {claim.family for claim in found}:
        mine = [claim for claim in found if claim.family == family and claim.p is not None]
        assert [claim.corrected for claim in mine] == holm([claim.p for claim in mine])
    assert all(claim.corrected < 0.05 for claim in found if claim.verdict == "holds")
