"""Cost and sharpness of the way from an image file to pixels: ``python benchmarks/pixels.py FLICKR8K``, its folder.

First how sharp random crops are beside whole images, cropped as now and by ``grid_sample`` as before 2026-11-25. Then
photographs, enlarged and with noise, as JPEGs decoded in full and at a fraction of their size, as before: pixels and
seconds of CPU.
"""

import argparse
import io
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from crop import CROP, by_grid_sample, by_matrices
from PIL import Image

from gaptune.data.pixels import square
from gaptune.trial.augment import resize

SIDE = 64


def energy(images):
    """Mean squared difference of neighboring pixels."""
    return float((images.diff(dim=2) ** 2).mean() + (images.diff(dim=3) ** 2).mean())


def sharpness(photographs):
    for stored in (64, 72, 80, 96, 128):
        squares = np.stack([square(photograph, stored) for photograph in photographs])
        images = torch.from_numpy(squares).permute(0, 3, 1, 2) / 255
        before = images
        if stored != SIDE:
            before = F.interpolate(images, size=(SIDE, SIDE), mode="bilinear", antialias=True, align_corners=False)
        now = energy(by_matrices(images, SIDE, 0)) / energy(resize(images, SIDE))
        earlier = energy(by_grid_sample(images, SIDE, 0)) / energy(before)
        print(f"stored at {stored}: crops have {now:.2f} of the whole images' energy, by grid_sample {earlier:.2f}")


def decoded(files, side, draft):
    """Squares of JPEG files, and milliseconds of CPU for each."""
    started, squares = time.process_time(), []
    for content in files:
        image = Image.open(io.BytesIO(content))
        if draft:
            image.draft("RGB", (2 * side, 2 * side))
        squares.append(square(image.convert("RGB"), side))
    return np.stack(squares).astype(int), 1000 * (time.process_time() - started) / len(files)


def fractions(photographs):
    rng = np.random.default_rng(0)
    for (width, height), side, n in (
        ((500, 375), 64, 200),
        ((640, 480), 224, 200),
        ((2000, 1500), 224, 20),
        ((4000, 3000), 224, 8),
    ):
        files = []
        for photograph in photographs[:n]:
            large = np.asarray(photograph.resize((width, height), Image.Resampling.BICUBIC)).astype(int)
            noisy = np.clip(large + rng.integers(-60, 61, large.shape), 0, 255).astype(np.uint8)
            files.append(io.BytesIO())
            Image.fromarray(noisy).save(files[-1], "JPEG", quality=90)
        contents = [file.getvalue() for file in files]
        (full, took), (part, part_took) = decoded(contents, side, draft=False), decoded(contents, side, draft=True)
        off = np.abs(full - part)
        print(
            f"{width} x {height} at {side}: in full {took:.1f} ms, at a fraction {part_took:.1f} ms an image, "
            f"whose pixels are off by {off.mean():.2f} on average, {off.max()} at most"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("flickr8k", type=Path)
    files = sorted((parser.parse_args().flickr8k / "val").glob("*.jpg"))[:512]
    photographs = [Image.open(file).convert("RGB") for file in files]
    print(f"crop_min {CROP.crop_min}, input {SIDE}, {len(photographs)} photographs")
    sharpness(photographs)
    fractions(photographs)


if __name__ == "__main__":
    main()
