"""The paper's claims, judged on made-up sweeps in which it is known what holds."""

import json

import numpy as np
import pytest
from paper_sweep import as_in_the_paper, sweep_record
from rich.console import Console
from support import header, sweep_config
from warm import run

from gaptune.console.paper import paper_report
from gaptune.errors import UserError
from gaptune.ledger import SweepRecord, load
from gaptune.paper.claims import claims, columns, named_rows
from gaptune.paper.photographs import photographs_known
from gaptune.paper.published import PUBLISHED
from gaptune.paper.tables import paper_markdown

TAUS = (0.01, 0.02, 0.04, 0.07, 0.1, 0.2, 0.4)


def verdicts(record):
    return {claim.text: claim.verdict for claim in claims(record)}


def text_of(renderable):
    console = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    console.print(renderable)
    return console.export_text()


@pytest.fixture(scope="module")
def record():
    return sweep_record(as_in_the_paper)


def test_rows_have_the_names_of_the_published_table(record):
    names = set(named_rows(record))
    assert set(PUBLISHED) <= names
    assert {"Baseline", "TR exp/s", "HS 1", "SS 1"} <= names
    assert {f"FLT {tau:g}" for tau in TAUS} <= names


def test_every_claim_holds_in_a_sweep_that_is_made_like_the_paper(record):
    failing = {text for text, verdict in verdicts(record).items() if verdict != "holds"}
    at_small_tau = {f"the gap of FLT {tau:g} is below the learned baseline's" for tau in (0.01, 0.02)}
    off_the_peak = {f"retrieval of FLT {tau:g} is above the learned baseline's" for tau in (0.01, 0.4)}
    assert failing == at_small_tau | off_the_peak


def test_a_gap_that_is_larger_does_not_hold(record):
    assert verdicts(record)["the gap of FLT 0.01 is below the learned baseline's"] == "does not hold"


def test_a_difference_that_changes_its_sign_with_the_seed_is_not_shown():
    def noisy(params, seed):
        scores = as_in_the_paper(params, seed)
        if params["method"] == "SLRT":
            scores["geometry/gap"] = 0.3 + (-0.2, 0.12, -0.01)[seed]
        return scores

    assert verdicts(sweep_record(noisy))["the gap of SLRT is below the learned baseline's"] == "not shown"


def test_a_gap_that_rises_again_is_named():
    def rising(params, seed):
        scores = as_in_the_paper(params, seed)
        if params.get("temperature.tau_start") == 0.4:
            scores["geometry/gap"] = 0.5
        return scores

    (claim,) = [claim for claim in claims(sweep_record(rising)) if claim.text.startswith("the gap falls")]
    assert claim.verdict == "does not hold"
    assert "it rises from 0.2 → 0.4" in claim.evidence


def test_retrieval_that_is_best_at_the_largest_temperature_is_no_inverted_u():
    def ever_better(params, seed):
        scores = as_in_the_paper(params, seed)
        if params["method"] == "FLT":
            recall = float(params.get("temperature.tau_start", 0.04))
            scores |= {f"retrieval/{way}_r1": recall for way in ("i2t", "t2i", "mean")}
        return scores

    assert verdicts(sweep_record(ever_better))["retrieval is an inverted U in a fixed τ"] == "does not hold"


def test_accuracy_that_follows_the_gap_is_distinguished_from_accuracy_that_follows_uniformity():
    def by_the_gap(params, seed):
        scores = as_in_the_paper(params, seed)
        return scores | {"zeroshot/top1": 1 - scores["geometry/gap"] / 2}

    found = verdicts(sweep_record(by_the_gap))
    assert found["zero-shot follows uniformity rather than the gap"] == "does not hold"
    assert found["linear probe follows uniformity rather than the gap"] == "holds"


def test_one_seed_shows_nothing():
    assert "holds" not in verdicts(sweep_record(as_in_the_paper, seeds=1)).values()


def test_without_a_baseline_what_needs_it_was_not_run_and_the_report_says_what_failed():
    record = sweep_record(as_in_the_paper, leave_out=("Baseline",))
    found = verdicts(record)
    assert found["the gap of SLRT is below the learned baseline's"] == "not run"
    assert "failed: Baseline, trial 0: non-finite" in text_of(paper_report(record))


def test_retrieval_is_that_of_the_sweeps_objective(record):
    assert columns(record).text_retrieval == "retrieval/i2t_r1"


def test_tables_show_means_with_errors_beside_the_papers_figures(record):
    shown = paper_markdown(record)
    assert "## Methods: this run" in shown
    assert "| Baseline | 0.294 | -1.165 | 13.65 | 65.55 | 68.23 | 78.37 |" in shown  # the paper's row
    row = next(line for line in shown.splitlines() if line.startswith("| Baseline |"))
    values = [as_in_the_paper({"method": "Baseline"}, seed)["retrieval/t2i_r1"] for seed in range(3)]
    assert f"{100 * np.mean(values):.1f} ± {100 * np.std(values, ddof=1) / 3**0.5:.1f}" in row
    assert "does not hold" in text_of(paper_report(record))


def test_a_sweep_over_something_else_is_refused():
    record = SweepRecord()
    record.apply(header(sweep_config()))
    with pytest.raises(UserError, match=r"search_spaces/paper\.yaml"):
        claims(record)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_command_runs_every_method_and_prints_a_verdict_for_each_claim(tmp_path, small_features, ray_address):
    sweep = tmp_path / "tiny.yaml"
    sweep.write_text(
        f"model: {{name: heads, width: 16}}\ndata: {{store: {small_features}}}\n"
        "training: {epochs: 1, batch_size: 64}\n"
        "objectives:\n  - {metric: retrieval/mean_r10, reference: 0.0, ideal: 1.0}\n"
        "  - {metric: uniformity/w2, reference: -1.5, ideal: -0.5}\nsearch: {sampler: grid}\n"
    )
    more = ["--results", tmp_path / "results", "--concurrency", "2", "--address", ray_address]
    done = run("reproduce", "--config", sweep, "--json", *more)
    printed = json.loads(done.stdout[: done.stdout.rindex("]") + 1])
    assert {entry["verdict"] for entry in printed} <= {"not shown", "does not hold", "not run"}  # a single seed
    folder = tmp_path / "results" / "tiny"
    assert "## Claims" in (folder / "paper.md").read_text()
    record = load(folder)
    assert len(record.trials) == 19  # in so short a training, the two smaller probabilities of a swap are one
    assert photographs_known(folder, record)
