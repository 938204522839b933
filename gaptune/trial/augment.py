"""Random resized crop and flip, for a whole batch on its device."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from gaptune.config import Augment
from gaptune.trial.streams import generator


def augment(images: Tensor, knobs: Augment, side: int, seed: int, step: int) -> Tensor:
    """Crops, resizes and mirrors images.

    A crop keeps a share of the area drawn from [crop_min, 1], at an aspect ratio drawn log-uniformly from [3/4, 4/3],
    as torchvision's ``RandomResizedCrop`` does; one that would not fit keeps its area and is as long as the image.

    Args:
        images: Float, shape (n, 3, height, width).
        knobs: What to do.
        side: Side of the square result.
        seed: Of the trial.
        step: Decides, with the seed, what is drawn.

    Returns:
        Shape (n, 3, side, side); the same images, resized if need be, when everything is switched off.
    """
    if knobs.crop_min == 1.0 and not knobs.flip:
        return resize(images, side)
    n = len(images)
    area, aspect, x, y, mirror = torch.rand(5, n, generator=generator(seed, "augment", step))
    area = knobs.crop_min + (1.0 - knobs.crop_min) * area
    ratio = torch.exp((2.0 * aspect - 1.0) * math.log(4 / 3)).clamp(area, 1.0 / area)  # so that neither side is above 1
    width, height = (area * ratio).sqrt(), (area / ratio).sqrt()
    sign = torch.where(mirror < 0.5, -1.0, 1.0) if knobs.flip else torch.ones(n)
    # Rows of an affine map from the result's coordinates, -1 to 1, to the image's.
    boxes = torch.zeros(n, 2, 3)
    boxes[:, 0, 0], boxes[:, 0, 2] = width * sign, (2.0 * x - 1.0) * (1.0 - width)
    boxes[:, 1, 1], boxes[:, 1, 2] = height, (2.0 * y - 1.0) * (1.0 - height)
    with torch.autocast(images.device.type, enabled=False):  # coordinates in bf16 would be off by pixels
        grid = F.affine_grid(boxes.to(images.device), list(images.shape), align_corners=False)
    crops = F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    return resize(crops, side)  # a step of its own, because grid_sample has no antialiasing


def resize(images: Tensor, side: int) -> Tensor:
    """Images of shape (n, 3, height, width) as squares, bilinear with antialiasing; untouched if they fit."""
    if images.shape[-2:] == (side, side):
        return images
    return F.interpolate(images, size=(side, side), mode="bilinear", antialias=True, align_corners=False)
