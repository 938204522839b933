"""Preprocessing of images, the same for stores, training, evaluation, exports and registered models.

It is open_clip's own: the shorter side is resized (bicubic, antialiased) and the middle square is kept.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from gaptune.data.sources import Pixels

INTERPOLATION: Literal["bicubic"] = "bicubic"
RESIZE_MODE = "shortest"
"""Value for open_clip's ``preprocess_cfg``. Pillow always resizes with antialiasing."""

_MOST = 2**24  # pixels of a whole resized image that are made to keep its middle


def square(image: Image.Image, side: int) -> Pixels:
    """The stored square of an image, to the bit what open_clip's ``image_transform(side, is_train=False)`` normalizes.

    Of an image so long that it would have more than 2^24 pixels once resized (334 times as long as wide at 224 pixels)
    only the middle is resized, for the sake of memory; rounding can then differ.

    Args:
        image: In RGB.
        side: Side of the square in pixels.

    Returns:
        uint8, shape (side, side, 3).
    """
    short = min(image.size)
    width, height = (int(side * length / short) for length in image.size)  # torchvision's Resize
    left, top = round((width - side) / 2.0), round((height - side) / 2.0)  # torchvision's CenterCrop
    if width * height > _MOST:
        return np.asarray(_middle(image, width, height, left, top, side))
    resized = image.resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(resized.crop((left, top, left + side, top + side)))


def _middle(image: Image.Image, width: int, height: int, left: int, top: int, side: int) -> Image.Image:
    """The square at (left, top) of an image that would be resized to (width, height), without resizing the rest."""
    across, down = image.width / width, image.height / height
    x, y, right, bottom = left * across, top * down, (left + side) * across, (top + side) * down
    beyond = 2 * max(1.0, across, down) + 1  # pixels that the filter sees around it
    near_x, near_y = max(0, math.floor(x - beyond)), max(0, math.floor(y - beyond))
    end_x, end_y = min(image.width, math.ceil(right + beyond)), min(image.height, math.ceil(bottom + beyond))
    near = image.crop((near_x, near_y, end_x, end_y))
    # Columns, then rows, as Pillow does for most whole images: between the two it rounds, so that the order matters.
    columns = (x - near_x, 0, right - near_x, near.height)
    near = near.resize((side, near.height), Image.Resampling.BICUBIC, columns)
    return near.resize((side, side), Image.Resampling.BICUBIC, (0, y - near_y, side, bottom - near_y))
