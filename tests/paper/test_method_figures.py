"""Figures 5 to 7: what is drawn is what the sweep has."""

import numpy as np
import pytest
from paper_sweep import as_in_the_paper, sweep_record
from support import header, sweep_config

from gaptune.errors import UserError
from gaptune.ledger import SweepRecord
from gaptune.paper.claims import named_rows
from gaptune.paper.figures.methods import downstream_figure, methods_figure, retrieval_figure


@pytest.fixture(scope="module")
def record():
    return sweep_record(as_in_the_paper)


def labels(axes):
    return {text.get_text() for text in axes.texts}


@pytest.mark.whole
def test_every_candidate_is_named_in_every_panel_of_figures_6_and_7(record):
    for draw in (retrieval_figure, downstream_figure):
        panels = draw(record).axes
        assert len(panels) == 4
        assert all(labels(axes) == set(named_rows(record)) for axes in panels)


@pytest.mark.whole
def test_axes_say_what_they_are_and_in_which_unit(record):
    for draw in (methods_figure, retrieval_figure, downstream_figure):
        assert all(axes.get_xlabel() and axes.get_ylabel() for axes in draw(record).axes)
    assert retrieval_figure(record).axes[0].get_ylabel() == "image retrieval, recall@1 (%)"


def test_a_point_is_the_mean_over_the_seeds_in_percent(record):
    axes = retrieval_figure(record).axes[0]
    (label,) = [text for text in axes.texts if text.get_text() == "Baseline"]
    scores = [as_in_the_paper({"method": "Baseline"}, seed) for seed in range(3)]
    expected = np.mean([[s["geometry/gap"], 100 * s["retrieval/t2i_r1"]] for s in scores], axis=0)
    assert label.xy == pytest.approx(tuple(expected))


def test_temperatures_are_drawn_for_each_method_with_a_line_of_its_own(record):
    lines = [line for line in methods_figure(record).axes[1].lines if len(line.get_xdata())]
    named = {text.get_text() for text in methods_figure(record).axes[1].texts}
    assert {"Baseline", "FLT 0.04", "TS S3", "TR softplus", "SLRT"} <= named
    assert len(lines) == len(named)


def test_a_sweep_without_labels_has_no_figure_7():
    def unlabeled(params, seed):
        return {k: v for k, v in as_in_the_paper(params, seed).items() if not k.startswith(("zeroshot", "probe"))}

    with pytest.raises(UserError, match="neither zero-shot nor linear probe"):
        downstream_figure(sweep_record(unlabeled))


def test_a_sweep_over_something_else_is_refused():
    record = SweepRecord()
    record.apply(header(sweep_config()))
    with pytest.raises(UserError, match="method"):
        methods_figure(record)
