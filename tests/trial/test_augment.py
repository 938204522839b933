"""Random crops and flips."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gaptune.config import Augment
from gaptune.trial.augment import augment, resize


def images(n=6, side=16, seed=0):
    return torch.rand(n, 3, side, side, generator=torch.Generator().manual_seed(seed))


def test_switched_off_it_is_the_identity():
    batch = images()
    assert torch.equal(augment(batch, Augment(), 16, seed=0, step=0), batch)


def test_switched_off_it_still_resizes_to_the_models_size():
    batch = images()
    assert torch.equal(augment(batch, Augment(), 8, seed=0, step=0), resize(batch, 8))
    assert resize(batch, 8).shape == (6, 3, 8, 8)


def test_resizing_keeps_what_is_constant_and_the_mean():
    assert torch.allclose(resize(torch.full((1, 3, 16, 16), 0.3), 8), torch.tensor(0.3))
    batch = images()
    assert torch.allclose(resize(batch, 8).mean((2, 3)), batch.mean((2, 3)), atol=0.02)


def test_a_flip_mirrors_half_of_the_images_and_does_nothing_else():
    batch = images(n=400, side=4)
    result = augment(batch, Augment(flip=True), 4, seed=0, step=0)
    same = torch.isclose(result, batch, atol=1e-5).flatten(1).all(1)
    mirrored = torch.isclose(result, batch.flip(3), atol=1e-5).flatten(1).all(1)
    assert (same ^ mirrored).all()
    assert float(mirrored.float().mean()) == pytest.approx(0.5, abs=0.08)


@pytest.mark.parametrize("knobs", [Augment(crop_min=0.3), Augment(crop_min=0.3, flip=True), Augment(flip=True)])
def test_what_is_drawn_depends_on_seed_and_step_alone(knobs):
    batch = images()
    first = augment(batch, knobs, 16, seed=1, step=7)
    torch.rand(100)  # the global stream has no part in it
    assert torch.equal(first, augment(batch, knobs, 16, seed=1, step=7))
    assert not torch.equal(first, augment(batch, knobs, 16, seed=1, step=8))
    assert not torch.equal(first, augment(batch, knobs, 16, seed=2, step=7))


@given(crop_min=st.floats(0.05, 1.0), flip=st.booleans(), side=st.integers(4, 20), step=st.integers(0, 999))
def test_the_result_has_the_models_size_and_stays_within_the_images_range(crop_min, flip, side, step):
    batch = images()
    result = augment(batch, Augment(crop_min=crop_min, flip=flip), side, seed=0, step=step)
    assert result.shape == (6, 3, side, side)
    for before, after in zip(batch, result, strict=True):
        assert before.min() - 1e-5 <= after.min() <= after.max() <= before.max() + 1e-5


def ramps(n, side=64):
    """Images whose first two channels are column and row, from -1 to 1: a crop shows where it was taken."""
    places = (torch.arange(side) + 0.5) / side * 2 - 1
    rows, columns = torch.meshgrid(places, places, indexing="ij")
    return torch.stack([columns, rows, torch.zeros_like(rows)]).repeat(n, 1, 1, 1)


def test_crops_have_the_area_and_aspect_that_they_should():
    side = 64
    result = augment(ramps(500, side), Augment(crop_min=0.4), side, seed=0, step=0)
    middle = result[:, :, side // 4 : -side // 4, side // 4 : -side // 4]  # away from interpolation at the borders
    width = (middle[:, 0, :, -1] - middle[:, 0, :, 0]).mean(1) / (side // 2 - 1) * side / 2
    height = (middle[:, 1, -1, :] - middle[:, 1, 0, :]).mean(1) / (side // 2 - 1) * side / 2
    area, ratio = width * height, width / height
    assert 0.39 <= area.min() < 0.45
    assert 0.95 < area.max() <= 1.001
    assert 3 / 4 - 0.01 <= ratio.min() < 0.8
    assert 1.25 < ratio.max() <= 4 / 3 + 0.01


def test_crops_lie_within_the_image_and_reach_its_borders():
    result = augment(ramps(500), Augment(crop_min=0.2), 64, seed=0, step=0)
    assert float(result.abs().max()) <= 1.0
    assert result[:, 0].min() < -0.95
    assert result[:, 0].max() > 0.95
    assert float(result[:, :2].mean((0, 2, 3)).abs().max()) < 0.05  # no side is preferred


def test_half_precision_around_it_does_not_blur_where_a_crop_is():
    batch, knobs = images(side=64), Augment(crop_min=0.3, flip=True)
    exact = augment(batch, knobs, 64, seed=0, step=0)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(augment(batch, knobs, 64, seed=0, step=0), exact)
