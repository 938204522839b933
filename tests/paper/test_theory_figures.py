"""Figures 1 to 4, and the command that draws them."""

import numpy as np
import pytest
from PIL import Image
from warm import run

from gaptune.paper.figures.theory import flow_figure, parallel_figure, pca_figure, real_figure
from gaptune.paper.theory.features import free_flow, random_features
from gaptune.paper.theory.scales import Scale


@pytest.fixture(scope="module")
def features():
    return random_features(40, 8, 0, spread=0.5), random_features(40, 8, 1, spread=0.5)


def test_figure_1_says_the_gap_and_draws_a_line_for_each_pair(features):
    (axes,) = pca_figure({"start": features}).axes
    gap = np.linalg.norm(features[0].mean(0) - features[1].mean(0))
    assert axes.get_title() == f"start: Δ = {gap:.2f}"
    assert len(axes.lines) == 40


def test_figure_2_shows_each_parameterization_with_a_line_of_its_own(features):
    runs = {kind: free_flow(Scale(kind), *features, decades=3.0, points=20) for kind in ("exp", "fixed")}
    axes = flow_figure(runs).axes
    assert len(axes) == 6
    assert len({str(line.get_linestyle()) for line in axes[0].lines}) == 2
    np.testing.assert_array_equal(axes[0].lines[0].get_ydata(), runs["exp"].gap)


def test_figure_3_has_matched_and_mismatched_pairs():
    assert [axes.get_title()[:12] for axes in parallel_figure().axes] == ["(a) matched ", "(b) mismatch"]


def test_figure_4_says_how_many_starts_grew():
    step, gap = np.array([0.0, 8, 16, 32, 64, 128]), np.array([1.0, 1.2, 1.1, 1.0, 0.9, 0.85])
    axes = real_figure(step, gap, np.array([0.1, 0.2, -0.1, 0.3])).axes
    assert axes[2].get_title() == "(c) 75% positive"
    assert all(one.get_xlabel() and one.get_ylabel() for one in axes)


@pytest.mark.whole
def test_the_command_draws_png_and_svg_and_refuses_what_it_cannot(tmp_path):
    command = "figures", "--out", tmp_path / "f", "--only"
    run(*command, "3")
    with Image.open(tmp_path / "f" / "figure3.png") as picture:
        assert picture.size[0] > 800
    assert "<svg" in (tmp_path / "f" / "figure3.svg").read_text()[:500]
    for only, message in (("8", "expected numbers from 1 to 7"), ("6", "require --sweep NAME")):
        assert message in run(*command, only, code=2).stderr
