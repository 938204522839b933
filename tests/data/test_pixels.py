"""The one preprocessing is open_clip's own."""

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from open_clip.transform import image_transform
from PIL import Image

from gaptune.data import pixels
from gaptune.data.build import build
from gaptune.data.pixels import INTERPOLATION, RESIZE_MODE, square
from gaptune.data.sources import find_source


def noise(width, height, seed=0):
    """The sharpest picture there is: each color of each pixel is 0 or 255."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 2, (height, width, 3), np.uint8) * np.uint8(255))


def by_open_clip(image, side):
    """What open_clip makes of an image, before it normalizes."""
    transform = image_transform(
        side, is_train=False, mean=(0.0,) * 3, std=(1.0,) * 3, interpolation=INTERPOLATION, resize_mode=RESIZE_MODE
    )
    return (transform(image).permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()


@given(width=st.integers(1, 300), height=st.integers(1, 300), side=st.integers(1, 160))
@example(width=1, height=300, side=64)
@example(width=300, height=1, side=64)
@example(width=1, height=1, side=64)
@example(width=64, height=64, side=64)
@example(width=65, height=64, side=64)
@example(width=103, height=67, side=32)  # an odd number of pixels is left over
@example(width=640, height=480, side=224)
@settings(max_examples=60)
def test_square_is_to_the_bit_what_open_clip_makes(width, height, side):
    image = noise(width, height)
    assert np.array_equal(square(image, side), by_open_clip(image, side))


@pytest.mark.parametrize("size", [(2, 4001), (3001, 3), (1501, 11), (400, 300)])
def test_only_the_middle_of_a_very_long_image_is_resized(size, monkeypatch):
    image = noise(*size)
    whole = square(image, 32).astype(int)
    monkeypatch.setattr(pixels, "_MOST", 1000)
    middle = square(image, 32)
    assert middle.shape == (32, 32, 3)
    assert np.abs(middle - whole).max() <= 1
    assert (middle != whole).mean() < 0.01


@pytest.mark.whole
def test_extremely_long_image_uses_little_memory():
    """Resized as a whole it would take 13 GB."""
    assert square(Image.new("RGB", (1, 65_500), "red"), 224).tolist() == [[[255, 0, 0]] * 224] * 224


@pytest.mark.parametrize(
    ("size", "form"), [((1200, 900), "JPEG"), ((375, 500), "JPEG"), ((40, 30), "JPEG"), ((300, 200), "PNG")]
)
def test_store_holds_what_open_clip_makes_of_the_files(tmp_path, size, form):
    """However large: JPEGs decoded at a fraction of their size would have other pixels."""
    folder = tmp_path / "files" / "test" / "a"
    folder.mkdir(parents=True)
    for k in range(2):
        noise(*size, seed=k).save(folder / f"{k}.{form.lower()}", form)
    source = find_source(f"imagefolder:{tmp_path / 'files'}")
    split = build(source, out=tmp_path / "store", image_size=64, context_length=16).split("test")
    for name, stored in zip(split.ids, split.gather(np.arange(2)), strict=True):
        with Image.open(tmp_path / "files" / name) as image:
            assert np.array_equal(stored, by_open_clip(image.convert("RGB"), 64))
