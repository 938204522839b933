"""Gap, alignment, margin and mismatched pairs against plain loops."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sphere import pairs, rotation, unit

from gaptune.metrics import geometry as room
from gaptune.metrics.geometry import alignment, gap, margin_and_mismatched


def plain_gap(x, y):
    n, d = x.shape
    means = [[sum(float(row[j]) for row in side) / n for j in range(d)] for side in (x, y)]
    return math.dist(*means)


def plain_alignment(x, y):
    return sum(math.dist(a.tolist(), b.tolist()) ** 2 for a, b in zip(x, y, strict=True)) / len(x)


def plain_margin_and_mismatched(x, y):
    margins, mismatched = [], []
    for one, other in ((x, y), (y, x)):
        cosine = (one @ other.T).tolist()
        for i, row in enumerate(cosine):
            best_other = max(value for j, value in enumerate(row) if j != i)
            margins.append(row[i] - best_other)
            mismatched.append(best_other >= row[i])
    return sum(margins) / len(margins), sum(mismatched) / len(mismatched)


@given(pairs())
def test_gap_and_alignment_agree_with_loops(sides):
    assert gap(*sides) == pytest.approx(plain_gap(*sides), abs=1e-12)
    assert alignment(*sides) == pytest.approx(plain_alignment(*sides), abs=1e-12)


@given(pairs(least=2))
def test_margin_and_mismatched_agree_with_loops(sides):
    assert margin_and_mismatched(*sides) == pytest.approx(plain_margin_and_mismatched(*sides), abs=1e-12)


@given(pairs(), st.integers(0, 99))
def test_gap_and_alignment_have_their_bounds_and_do_not_change_by_rotation(sides, seed):
    x, y = sides
    turn = rotation(x.shape[1], seed)
    assert 0.0 <= gap(x, y) <= 2.0
    assert 0.0 <= alignment(x, y) <= 4.0 + 1e-12
    assert gap(x @ turn, y @ turn) == pytest.approx(gap(x, y), abs=1e-9)
    assert alignment(x @ turn, y @ turn) == pytest.approx(alignment(x, y), abs=1e-9)


@given(pairs(least=2))
def test_nothing_depends_on_which_modality_is_named_first(sides):
    x, y = sides
    assert gap(x, y) == gap(y, x)
    assert alignment(x, y) == alignment(y, x)
    assert margin_and_mismatched(x, y) == pytest.approx(margin_and_mismatched(y, x), abs=1e-15)


def test_gap_is_zero_for_equal_and_two_for_opposite_cones():
    x = unit(1, 8).repeat(5, 1)
    assert gap(x, x) == 0.0
    assert gap(x, -x) == pytest.approx(2.0)


def test_gap_is_the_offset_of_parallel_modalities():
    # Section 3 of the paper: features (sqrt(1-γ²) u, ±γ) with centered u have a gap of 2γ.
    u = torch.cat([unit(6, 4), -unit(6, 4)])
    gamma = 0.3
    flat = math.sqrt(1 - gamma**2) * u
    x, y = (torch.cat([flat, torch.full((12, 1), side)], dim=1) for side in (gamma, -gamma))
    assert gap(x, y) == pytest.approx(2 * gamma)


def test_equal_orthonormal_sides_have_margin_one_and_no_mismatch():
    assert margin_and_mismatched(torch.eye(4), torch.eye(4)) == (1.0, 0.0)


def test_collapsed_features_have_no_margin_and_every_pair_is_mismatched():
    x = unit(1, 8).repeat(5, 1)
    margin, mismatched = margin_and_mismatched(x, x)
    assert margin == pytest.approx(0.0, abs=1e-12)
    assert mismatched == 1.0


def test_pair_that_ties_with_another_is_mismatched():
    x = torch.eye(3)[[0, 1, 1]]  # the second and third pair are the same
    assert margin_and_mismatched(x, x) == (pytest.approx(1 / 3), pytest.approx(2 / 3))


def test_blocks_change_nothing(monkeypatch):
    x, y = unit(23, 6, 1), unit(23, 6, 2)
    whole = margin_and_mismatched(x, y)
    monkeypatch.setattr(room, "_BLOCK", 5)
    assert margin_and_mismatched(x, y) == pytest.approx(whole, abs=1e-12)


def test_input_features_are_unchanged():
    x, y = unit(5, 4, 1), unit(5, 4, 2)
    before = x.clone(), y.clone()
    margin_and_mismatched(x, y)
    assert torch.equal(x, before[0])
    assert torch.equal(y, before[1])


def test_single_pair_has_no_margin():
    with pytest.raises(ValueError, match="two pairs"):
        margin_and_mismatched(unit(1, 4), unit(1, 4))


@pytest.mark.parametrize("metric", [gap, alignment, margin_and_mismatched])
@pytest.mark.parametrize(("x", "y"), [((5, 4), (6, 4)), ((5, 4), (5, 3)), ((0, 4), (0, 4)), ((5,), (5,))], ids=str)
def test_features_that_are_not_matched_pairs_are_refused(metric, x, y):
    with pytest.raises(ValueError, match="matched pairs"):
        metric(torch.zeros(x), torch.zeros(y))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_results_on_gpu_and_cpu_agree():
    x, y = unit(300, 64, 1, torch.float32), unit(300, 64, 2, torch.float32)
    assert gap(x.cuda(), y.cuda()) == pytest.approx(gap(x, y), abs=1e-6)
    assert alignment(x.cuda(), y.cuda()) == pytest.approx(alignment(x, y), abs=1e-6)
    on_gpu, on_cpu = margin_and_mismatched(x.cuda(), y.cuda()), margin_and_mismatched(x, y)
    assert on_gpu == pytest.approx(on_cpu, abs=1e-5)
