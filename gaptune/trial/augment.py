"""Random resized crop and flip, drawn on the CPU and done for a whole batch on its device; and the plain resize."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from gaptune.config import AugmentConfig
from gaptune.data.pixels import INTERPOLATION
from gaptune.trial.streams import generator

_TRIES = 10  # torchvision's
_LOG_RATIO = math.log(4 / 3)
_AT_ONCE = 16  # images whose products stay in a CPU's cache; new memory for all of a batch costs more than they do


class Boxes(NamedTuple):
    """The part that is cut out of each image, and whether it is mirrored; each of shape (n,).

    Attributes:
        top: First row.
        left: First column.
        height: Rows.
        width: Columns.
        mirrored: Whether left and right are swapped.
    """

    top: Tensor
    left: Tensor
    height: Tensor
    width: Tensor
    mirrored: Tensor


def resize(images: Tensor, side: int) -> Tensor:
    """Square images, shape (n, 3, height, width), at another size: bicubic, antialiased; untouched if they fit."""
    if images.shape[-2:] == (side, side):
        return images
    return F.interpolate(images, size=(side, side), mode=INTERPOLATION, antialias=True, align_corners=False)


def draw_boxes(n: int, stored: int, params: AugmentConfig, seed: int, step: int) -> Boxes:
    """Draws crops as torchvision's ``RandomResizedCrop`` does.

    Area uniform in [crop_min, 1], aspect ratio log-uniform in [3/4, 4/3], sides rounded, position uniform. Of ten
    tries the first that fits into the image is taken; where none does, the whole image is.

    Args:
        n: Number of crops.
        stored: Side of the square images in pixels.
        params: Augmentation.
        seed: Seed of the trial.
        step: Decides, with the seed, what is drawn.
    """
    stream = generator(seed, "augment", step)
    area, ratio = torch.rand(2, _TRIES, n, dtype=torch.float64, generator=stream)
    y, x, mirror = torch.rand(3, n, dtype=torch.float64, generator=stream)
    whole = torch.full((n,), stored)
    if params.crop_min == 1.0:
        height, width = whole, whole
    else:
        area = stored**2 * (params.crop_min + (1.0 - params.crop_min) * area)
        ratio = torch.exp((2.0 * ratio - 1.0) * _LOG_RATIO)
        height, width = (area / ratio).sqrt().round().long(), (area * ratio).sqrt().round().long()
        fits = (height > 0) & (width > 0) & (height <= stored) & (width <= stored)
        first = fits.byte().argmax(0, keepdim=True)
        found = fits.any(0)
        height, width = (torch.where(found, each.gather(0, first)[0], whole) for each in (height, width))
    top, left = (y * (stored - height + 1)).long(), (x * (stored - width + 1)).long()
    return Boxes(top, left, height, width, (mirror < 0.5) & torch.tensor(params.flip))


def crop(images: Tensor, boxes: Boxes, side: int) -> Tensor:
    """Cuts a box out of each image and resizes it: torchvision's ``resized_crop``, bicubic with antialiasing.

    Resizing is linear and treats rows and columns apart, so that it is a product with a matrix from the left and one
    with another from the right: the whole batch takes two batched products.

    Args:
        images: Any numbers, shape (n, stored side, stored side, 3), as stores hold them.
        boxes: Within the images, on their device.
        side: Side of the square result.

    Returns:
        Float32, shape (n, 3, side, side), in channels_last. As in torchvision, values at sharp edges can overshoot
        those of the image.
    """
    n, stored, _, colors = images.shape
    forth = torch.arange(side, device=images.device).expand(n, side)
    back = torch.where(boxes.mirrored[:, None], forth.flip(1), forth)
    starts, lengths = torch.stack([boxes.top, boxes.left]), torch.stack([boxes.height, boxes.width])
    at, weights = _taps(starts, lengths, stored, torch.stack([forth, back]))
    result = torch.empty(n, side, side, colors, device=images.device)  # colors beside columns, as images are stored
    step = n if images.device.type == "cuda" else _AT_ONCE
    with torch.autocast(images.device.type, enabled=False):  # products in bf16 would blur colors
        for few in (slice(start, start + step) for start in range(0, n, step)):
            pixels = images[few].float()
            matrices = pixels.new_zeros(2, len(pixels), side, stored)
            rows, columns = matrices.scatter_(3, at[:, few], weights[:, few])
            half = torch.bmm(rows, pixels.reshape(-1, stored, stored * colors))
            half = half.view(-1, side, stored, colors).transpose(2, 3).reshape(-1, side * colors, stored)
            whole = torch.bmm(half, columns.transpose(1, 2))
            result[few] = whole.view(-1, side, colors, side).transpose(2, 3)
    return result.permute(0, 3, 1, 2)


def _taps(start: Tensor, length: Tensor, stored: int, places: Tensor) -> tuple[Tensor, Tensor]:
    """Which pixels of a line pixels of a resized part of it are made of, and how much each counts.

    Args:
        start: First pixel of the part, shape (2, n): of rows and of columns.
        length: Pixels of the part, shape (2, n).
        stored: Pixels of the line.
        places: Which pixels of the resized part, in the order that is wanted, shape (2, n, side).

    Returns:
        Two of shape (2, n, side, taps): pixels of the line, no two equal, and weights, whose sum over taps is 1.
    """
    side = places.shape[-1]
    taps = min(math.ceil(4.0 * max(1.0, stored / side)), stored)  # as many as the whole line needs: no wait for a card
    start, length = start[..., None], length[..., None]
    scale = length / side
    center = scale * (places + 0.5)  # from the part's start, in single precision, as torch has it
    stretch = scale.clamp(min=1.0)  # a part that is made smaller is seen through a wider filter
    first = (start + (center - 2.0 * stretch + 0.5).long().clamp(min=0)).clamp(max=stored - taps)
    number = torch.arange(taps, device=places.device)
    place = (first - start)[..., None] + number.float()
    weights = _cubic((place - center[..., None]).add_(0.5).div_(stretch[..., None]))
    weights *= (place >= 0) & (place < length[..., None])  # what lies beyond the part is not seen
    weights /= weights.sum(-1, keepdim=True)
    return first[..., None] + number, weights


def _cubic(x: Tensor) -> Tensor:
    """Keys' cubic filter with a = -1/2, which torch and Pillow use for antialiased bicubic resizing."""
    x = x.abs().clamp_(max=2.0)  # where it ends
    near = (1.5 * x).sub_(2.5).mul_(x).mul_(x).add_(1.0)
    far = (-0.5 * x).add_(2.5).mul_(x).sub_(4.0).mul_(x).add_(2.0)
    return torch.where(x < 1.0, near, far)
