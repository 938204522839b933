"""Retrieval is tested over photographs and seeds: a claim that few photographs make is not shown."""

from pathlib import Path

import numpy as np
import pytest
from paper_sweep import as_in_the_paper, sweep_record

from gaptune.paper.claim_tests import above
from gaptune.paper.claims import claims
from gaptune.paper.photographs import Photographs, photographs_known
from gaptune.paper.tables import footnote, grids
from gaptune.storage.outcomes import RetrievalOutcomes

WAYS = ("retrieval/i2t_r1", "retrieval/t2i_r1")
OF_TS_S3 = "retrieval of TS S3 is above the learned baseline's"


class Trial:
    """A trial as ``Photographs`` sees it."""

    def __init__(self, number, outcomes):
        self.number = number
        self.last = {name: right.mean() for name, right in outcomes.right.items()}


def leave(folder, number, chances, rng, per_image=2):
    """Leaves outcomes of a trial that finds each photograph, and each of its captions, with its own chance."""
    right = {WAYS[0]: rng.random(len(chances)) < chances}
    right[WAYS[1]] = np.repeat(right[WAYS[0]], per_image)
    outcomes = RetrievalOutcomes(np.full(len(chances), per_image), right, {"geometry/gap": 0.0})
    outcomes.save(folder / "trials" / f"{number:04d}")
    return Trial(number, outcomes)


def two(folder, one, other, rng, seeds=5):
    photographs = Photographs(folder, WAYS)
    rows = [[leave(folder, 10 * row + s, each, rng) for s in range(seeds)] for row, each in enumerate((one, other))]
    return [photographs.retrieval(trials) for trials in rows]


def test_equal_methods_differ_by_chance_of_photographs_in_5_percent(tmp_path):
    rng, wrong = np.random.default_rng(0), {"both": 0, "seeds": 0}
    for _ in range(100):  # photographs favor one or the other, and all seeds agree on it
        one, other = (rng.random((2, 60)) < 0.5).astype(float) * 0.98 + 0.01
        first, second = two(tmp_path, one, other, rng, seeds=3)
        wrong["both"] += first.above(second) < 0.05
        wrong["seeds"] += above(first.values, second.values) < 0.05
    assert wrong["both"] <= 5 + 3 * 2.2
    assert wrong["seeds"] > 30


def test_a_difference_in_many_photographs_is_shown_with_its_interval(tmp_path):
    rng = np.random.default_rng(1)
    better, baseline = two(tmp_path, np.full(500, 0.6), np.full(500, 0.4), rng)
    assert better.above(baseline) < 0.001
    assert baseline.above(better) > 0.99
    low, high = better.interval(baseline)
    assert 0.1 < low < 0.2 < high < 0.3
    assert (baseline * 0.5).above(better) > 0.99


def test_p_is_never_below_that_of_the_seeds_and_the_same_training_is_no_better(tmp_path):
    rng = np.random.default_rng(2)
    one, other = two(tmp_path, np.full(200, 0.5), np.full(200, 0.45), rng)
    assert one.above(other) >= above(one.values, other.values)
    assert one.above(one) == 1.0


def test_without_outcomes_seeds_decide(tmp_path):
    rng = np.random.default_rng(3)
    (baseline, _), trials = (
        two(tmp_path, np.full(50, 0.5), np.full(50, 0.5), rng),
        [leave(tmp_path, 99, np.ones(9), rng)],
    )
    (tmp_path / "trials/0099/outcomes.npz").unlink()
    alone = Photographs(tmp_path, WAYS).retrieval(trials)
    assert alone.drawn is None
    assert alone.interval(baseline) is None
    assert Photographs(None, WAYS).retrieval(trials).drawn is None


@pytest.fixture(scope="module")
def sweep(tmp_path_factory) -> tuple[Path, object]:
    """A sweep like the paper whose retrieval, photograph by photograph, is no better than the baseline's."""
    folder, record = tmp_path_factory.mktemp("sweep"), sweep_record(as_in_the_paper)
    rng = np.random.default_rng(0)
    for trial in record.trials.values():
        chances = np.random.default_rng(trial.candidate).random(40)
        outcomes = RetrievalOutcomes(
            np.full(40, 2),
            {WAYS[0]: rng.random(40) < chances, WAYS[1]: np.repeat(rng.random(40) < chances, 2)},
            {"geometry/gap": 0.01, "uniformity/w2": -0.9, WAYS[0]: 0.5, WAYS[1]: 0.5},
        )
        outcomes.save(folder / "trials" / f"{trial.number:04d}")
    return folder, record


def test_verdicts_on_retrieval_need_photographs_and_those_on_the_gap_do_not(sweep):
    folder, record = sweep
    by_seeds, by_both = ({claim.text: claim for claim in claims(record, where)} for where in (None, folder))
    assert by_seeds[OF_TS_S3].verdict == "holds"
    assert by_both[OF_TS_S3].verdict == "not shown"
    assert "points" in by_both[OF_TS_S3].evidence
    gap = "the gap of TS S3 is below the learned baseline's"
    assert by_seeds[gap] == by_both[gap]


def test_the_footnote_says_over_what_retrieval_is_tested(sweep):
    folder, record = sweep
    assert photographs_known(folder, record)
    assert not photographs_known(None, record)
    assert "over photographs and seeds" in footnote(record, folder)
    assert "no record of the photographs" in footnote(record)


def test_rows_after_training_are_the_metrics_without_means(sweep):
    folder, record = sweep
    titles = [grid.title for grid in grids(record)]
    (after,) = [grid for grid in grids(record, folder) if grid.title not in titles]
    assert after.title.startswith("After training")
    rows = {name: cells for name, *cells in after.rows}
    assert {"Baseline", "FLT 0.01", "TS S3", "HS 0.001"} <= rows.keys()
    assert rows["FLT 0.01"][1] == "0.010 ± 0.000"
    assert rows["FLT 0.01"][0].startswith("1.0")
