"""Random crops and flips."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import InterpolationMode, RandomResizedCrop
from torchvision.transforms.v2 import functional

from gaptune.config import AugmentConfig, ModelConfig
from gaptune.data.pixels import square
from gaptune.trial.augment import Boxes, crop, draw_boxes, resize
from gaptune.trial.build_model import make_model
from gaptune.trial.encoder import Drawn


def images(n=6, side=16, seed=0):
    return torch.rand(n, 3, side, side, generator=torch.Generator().manual_seed(seed))


def augment(batch, params, side, seed, step):
    """A batch of shape (n, 3, side, side) cropped as in a training step."""
    return crop_planar(batch, draw_boxes(len(batch), batch.shape[-1], params, seed, step), side)


def crop_planar(batch, boxes, side):
    return crop(batch.permute(0, 2, 3, 1), boxes, side)


def cropped_by_torchvision(batch, boxes, side):
    return torch.stack(
        [
            functional.resized_crop(image, *box[:4], [side, side], InterpolationMode.BICUBIC, antialias=True)
            for image, *box in zip(batch, *(each.tolist() for each in boxes), strict=True)
        ]
    )


def test_disabled_augmentation_draws_nothing_and_inputs_are_those_of_an_evaluation(store):
    model = make_model(ModelConfig(), store.meta)
    stored = torch.from_numpy(store.split("train").gather(np.arange(4)))
    assert model.draw(4, AugmentConfig(), seed=0, step=0) == Drawn()
    off = AugmentConfig(crop_min=0.3)
    assert not torch.equal(model.image_inputs(stored, model.draw(4, off, 0, 0).images), model.image_inputs(stored))


def test_images_are_resized_to_the_models_size():
    assert resize(images(), 8).shape == (6, 3, 8, 8)
    assert torch.equal(resize(images(), 16), images())


@pytest.mark.parametrize("params", [AugmentConfig(crop_min=0.4), AugmentConfig(flip=True)])
def test_inputs_are_normalized_crops_of_the_stored_bytes(params, store):
    model = make_model(ModelConfig(), store.meta)
    stored = torch.from_numpy(store.split("train").gather(np.arange(5)))
    drawn = model.draw(5, params, seed=3, step=2)
    expected = crop(stored, drawn.images, model.image_size) / 255
    mean, std = (torch.tensor(each).view(1, 3, 1, 1) for each in (model.mean, model.std))
    torch.testing.assert_close(model.image_inputs(stored, drawn.images), (expected - mean) / std, atol=1e-5, rtol=0)


def test_resizing_keeps_constant_images_and_the_mean():
    assert torch.allclose(resize(torch.full((1, 3, 16, 16), 0.3), 8), torch.tensor(0.3))
    batch = images()
    assert torch.allclose(resize(batch, 8).mean((2, 3)), batch.mean((2, 3)), atol=0.02)


def test_flip_mirrors_half_of_the_images_and_does_nothing_else():
    batch = images(n=400, side=4)
    result = augment(batch, AugmentConfig(flip=True), 4, seed=0, step=0)
    same = torch.isclose(result, batch, atol=1e-5).flatten(1).all(1)
    mirrored = torch.isclose(result, batch.flip(3), atol=1e-5).flatten(1).all(1)
    assert (same ^ mirrored).all()
    assert float(mirrored.float().mean()) == pytest.approx(0.5, abs=0.08)


@pytest.mark.parametrize(
    "params", [AugmentConfig(crop_min=0.3), AugmentConfig(crop_min=0.3, flip=True), AugmentConfig(flip=True)]
)
def test_random_draws_depend_only_on_seed_and_step(params):
    batch = images()
    first = augment(batch, params, 16, seed=1, step=7)
    torch.rand(100)  # the global stream has no part in it
    assert torch.equal(first, augment(batch, params, 16, seed=1, step=7))
    assert not torch.equal(first, augment(batch, params, 16, seed=1, step=8))
    assert not torch.equal(first, augment(batch, params, 16, seed=2, step=7))


@given(crop_min=st.floats(0.05, 1.0), flip=st.booleans(), side=st.integers(4, 40), step=st.integers(0, 999))
def test_result_is_that_of_torchvision_for_the_boxes_that_were_drawn(crop_min, flip, side, step):
    batch, params = images(), AugmentConfig(crop_min=crop_min, flip=flip)
    boxes = draw_boxes(len(batch), 16, params, seed=0, step=step)
    expected = cropped_by_torchvision(batch, boxes, side)
    expected[boxes.mirrored] = expected[boxes.mirrored].flip(3)
    torch.testing.assert_close(augment(batch, params, side, seed=0, step=step), expected, atol=1e-5, rtol=0)


@given(data=st.data(), side=st.integers(1, 90), stored=st.integers(1, 90))
def test_any_box_is_resized_as_torchvision_does(data, side, stored):
    n, corners = 3, []
    batch = images(n, stored, seed=side)
    for _ in range(2):
        sizes = data.draw(st.lists(st.integers(1, stored), min_size=n, max_size=n))
        corners.append(([data.draw(st.integers(0, stored - size)) for size in sizes], sizes))
    (top, rows), (left, columns) = corners
    boxes = Boxes(*map(torch.tensor, (top, left, rows, columns, [False, True, False])))
    expected = cropped_by_torchvision(batch, boxes, side)
    expected[1] = expected[1].flip(2)
    torch.testing.assert_close(crop_planar(batch, boxes, side), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("side", [224, 160])
@pytest.mark.parametrize("stored", [224, 256])
def test_photographs_are_resized_as_torchvision_does(stored, side):
    batch, params = images(3, stored), AugmentConfig(crop_min=0.08, flip=False)
    boxes = draw_boxes(3, stored, params, seed=0, step=0)
    result = augment(batch, params, side, seed=0, step=0)
    torch.testing.assert_close(result, cropped_by_torchvision(batch, boxes, side), atol=1e-5, rtol=0)


def test_batch_need_not_be_a_multiple_of_the_chunk_size():
    batch, params = images(37), AugmentConfig(crop_min=0.3)
    boxes = draw_boxes(37, 16, params, seed=0, step=0)
    torch.testing.assert_close(
        crop_planar(batch, boxes, 12), cropped_by_torchvision(batch, boxes, 12), atol=1e-5, rtol=0
    )


def test_order_of_colors_in_memory_does_not_matter():
    planar, params = images(), AugmentConfig(crop_min=0.3, flip=True)
    beside = planar.contiguous(memory_format=torch.channels_last)
    assert torch.equal(augment(planar, params, 8, seed=0, step=0), augment(beside, params, 8, seed=0, step=0))


@given(before=st.integers(1, 80), after=st.integers(1, 80))
def test_resizing_is_that_of_torchvision_too(before, after):
    batch = images(2, before)
    expected = functional.resize(batch, [after, after], InterpolationMode.BICUBIC, antialias=True)
    torch.testing.assert_close(resize(batch, after), expected, atol=1e-5, rtol=0)


@pytest.mark.whole
@pytest.mark.parametrize(("stored", "crop_min"), [(64, 0.6), (32, 0.08), (16, 0.9), (64, 0.99)])
def test_boxes_are_distributed_as_torchvisions(stored, crop_min):
    n = 20_000
    boxes = draw_boxes(n, stored, AugmentConfig(crop_min=crop_min), seed=0, step=0)
    image = torch.zeros(3, stored, stored)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        theirs = [RandomResizedCrop.get_params(image, [crop_min, 1.0], [3 / 4, 4 / 3]) for _ in range(n)]
    their = dict(zip(("top", "left", "height", "width"), torch.tensor(theirs).T, strict=True))
    ours = boxes._asdict()
    for name in their:  # Kolmogorov and Smirnov's distance; 0.0195 is passed once in 1,000 where nothing differs
        counts = [torch.bincount(each[name], minlength=stored + 1).cumsum(0) / n for each in (ours, their)]
        assert float((counts[0] - counts[1]).abs().max()) < 0.0195, name
    area, ratio = boxes.height * boxes.width / stored**2, boxes.width / boxes.height
    same = their["height"] * their["width"] / stored**2, their["width"] / their["height"]
    for ours_, theirs_ in zip((area, ratio), same, strict=True):
        assert float(ours_.mean()) == pytest.approx(float(theirs_.mean()), abs=0.01)
        assert float(ours_.std()) == pytest.approx(float(theirs_.std()), abs=0.01)
    spans = [float(((each["height"] == stored) | (each["width"] == stored)).float().mean()) for each in (ours, their)]
    assert spans[0] == pytest.approx(spans[1], abs=0.02)


def test_whole_image_is_used_if_no_crop_fits():
    boxes = draw_boxes(2000, 64, AugmentConfig(crop_min=0.9999), seed=0, step=0)
    whole = (boxes.height == 64) & (boxes.width == 64)
    assert float(whole.float().mean()) > 0.5
    assert not boxes.top[whole].any()
    assert not boxes.left[whole].any()


def energy(pixels):
    """Mean squared difference of neighbours."""
    return float((pixels.diff(dim=2) ** 2).mean() + (pixels.diff(dim=3) ** 2).mean())


def test_training_and_evaluation_images_are_equally_sharp_where_the_store_is_larger_than_the_input():
    rng = np.random.default_rng(0)
    drawn = [np.kron(rng.integers(0, 256, (12, 16, 3)), np.ones((20, 20, 1))).astype(np.uint8) for _ in range(32)]
    stored = torch.from_numpy(np.stack([square(Image.fromarray(each), 72) for each in drawn]))
    batch = stored.permute(0, 3, 1, 2) / 255
    train, evaluation = augment(batch, AugmentConfig(crop_min=0.6), 64, 0, 0), resize(batch, 64)
    assert 0.9 < energy(train) / energy(evaluation) < 1.1


def ramps(n, side=64):
    """Images whose first two channels are column and row, from -1 to 1: a crop shows where it was taken."""
    places = (torch.arange(side) + 0.5) / side * 2 - 1
    rows, columns = torch.meshgrid(places, places, indexing="ij")
    return torch.stack([columns, rows, torch.zeros_like(rows)]).repeat(n, 1, 1, 1)


def test_crops_have_the_area_and_aspect_that_they_should():
    side = 64
    result = augment(ramps(500, side), AugmentConfig(crop_min=0.4), side, seed=0, step=0)
    middle = result[:, :, side // 4 : -side // 4, side // 4 : -side // 4]  # away from interpolation at the borders
    width = (middle[:, 0, :, -1] - middle[:, 0, :, 0]).mean(1) / (side // 2 - 1) * side / 2
    height = (middle[:, 1, -1, :] - middle[:, 1, 0, :]).mean(1) / (side // 2 - 1) * side / 2
    area, ratio = width * height, width / height
    assert 0.38 <= area.min() < 0.45  # sides are whole pixels
    assert 0.95 < area.max() <= 1.001
    assert 3 / 4 - 0.03 <= ratio.min() < 0.8
    assert 1.25 < ratio.max() <= 4 / 3 + 0.03


def test_crops_lie_within_the_image_and_reach_its_borders():
    boxes = draw_boxes(500, 64, AugmentConfig(crop_min=0.2), seed=0, step=0)
    for start, length in ((boxes.top, boxes.height), (boxes.left, boxes.width)):
        assert start.min() == 0
        assert (start + length).max() == 64
        assert float((start + length / 2).mean()) == pytest.approx(32, abs=2)  # no side is preferred


def test_half_precision_around_it_does_not_blur_where_a_crop_is():
    batch, params = images(side=64), AugmentConfig(crop_min=0.3, flip=True)
    exact = augment(batch, params, 64, seed=0, step=0)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(augment(batch, params, 64, seed=0, step=0), exact)


def test_crops_never_keep_less_than_crop_min():
    at = (torch.arange(64) + 0.5) / 32 - 1
    down, right = torch.meshgrid(at, at, indexing="ij")
    crops = augment(
        torch.stack([right, down, down]).repeat(500, 1, 1, 1), AugmentConfig(crop_min=0.9), 64, seed=0, step=0
    )
    width = (crops[:, 0, :, 62] - crops[:, 0, :, 1]).mean(1) / 2 * 64 / 61
    height = (crops[:, 1, 62] - crops[:, 1, 1]).mean(1) / 2 * 64 / 61
    assert float((width * height).min()) > 0.89


def test_augmented_images_are_downsized_without_aliasing():
    stripes = (torch.arange(64) % 4 < 1).float().expand(8, 3, 64, 64)  # bilinear samples 4 pixels apart miss them all
    shrunk = augment(stripes, AugmentConfig(flip=True), 16, seed=0, step=0)
    torch.testing.assert_close(shrunk.mean(), torch.tensor(0.25), atol=0.02, rtol=0)
