"""CPU time of the random crops of a training step: ``python benchmarks/crop.py [--batch 128] [--stored 72]``.

Three ways take turns: gaptune's two matrix products; torchvision's ``resized_crop`` for each image; and
``grid_sample`` with a resize, as gaptune cropped before 2026-11-25. The first two give equal pixels.
"""

import argparse
import statistics
import time

import torch
import torch.nn.functional as F
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional

from gaptune.config import AugmentConfig
from gaptune.trial.augment import crop, draw_boxes

CROP = AugmentConfig(crop_min=0.6, flip=True)


def by_matrices(images, side, step):
    stored = images.permute(0, 2, 3, 1)
    return crop(stored, draw_boxes(len(stored), stored.shape[1], CROP, seed=0, step=step), side)


def by_torchvision(images, side, step):
    boxes = draw_boxes(len(images), images.shape[-1], CROP, seed=0, step=step)
    made = []
    for image, *box, mirrored in zip(images, *(each.tolist() for each in boxes), strict=True):
        cut = functional.resized_crop(image, *box, [side, side], InterpolationMode.BICUBIC, antialias=True)
        made.append(cut.flip(2) if mirrored else cut)
    return torch.stack(made)


def by_grid_sample(images, side, step):
    stored = images.shape[-1]
    boxes = draw_boxes(len(images), stored, CROP, seed=0, step=step)
    maps = torch.zeros(len(images), 2, 3)
    maps[:, 0, 0] = boxes.width / stored * torch.where(boxes.mirrored, -1.0, 1.0)
    maps[:, 0, 2] = (2 * boxes.left + boxes.width) / stored - 1
    maps[:, 1, 1] = boxes.height / stored
    maps[:, 1, 2] = (2 * boxes.top + boxes.height) / stored - 1
    grid = F.affine_grid(maps, list(images.shape), align_corners=False)
    crops = F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    if stored == side:
        return crops
    return F.interpolate(crops, size=(side, side), mode="bilinear", antialias=True, align_corners=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--stored", type=int, default=64)
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=100)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    images = torch.rand(arguments.batch, arguments.stored, arguments.stored, 3).permute(0, 3, 1, 2)  # as stored
    ways = {"matrices": by_matrices, "torchvision": by_torchvision, "grid_sample": by_grid_sample}
    cpu = {name: [] for name in ways}
    for step in range(arguments.rounds):
        for name, way in ways.items():
            started = time.process_time()
            way(images, arguments.side, step)
            cpu[name].append(1000 * (time.process_time() - started))
    for name, taken in cpu.items():
        print(f"{name:12} {statistics.median(taken):6.1f} ms of CPU a step (median), at least {min(taken):.1f}")


if __name__ == "__main__":
    main()
