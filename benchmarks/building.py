"""Time and memory of a build: many small images in shards, or a row of a table for each of their captions.

    python benchmarks/building.py --images 100000
    python benchmarks/building.py --images 100000 --rows shuffled

Each build runs in a process of its own. Printed are seconds, CPU seconds, and the most memory that was resident, beside
that of a build of a hundredth of the images.
"""

from __future__ import annotations

import argparse
import io
import resource
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

CAPTIONS = 5  # of an image
PER_SHARD = 10_000


def png(number: int) -> bytes:
    """An image of 32 pixels; other numbers give other bytes."""
    pixels = np.random.default_rng(number).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).resize((32, 32), Image.Resampling.NEAREST).save(out, "PNG")
    return out.getvalue()


def captions(number: int) -> list[str]:
    """The captions of an image."""
    return [f"caption {each} of the image {number} with a few more words" for each in range(CAPTIONS)]


def write_shards(folder: Path, images: int) -> list[str]:
    """Shards with a caption a line; returns the arguments of a build."""
    for start in range(0, images, PER_SHARD):
        with tarfile.open(folder / f"{start // PER_SHARD:05d}.tar", "w") as tar:
            for number in range(start, min(start + PER_SHARD, images)):
                for ending, content in (("png", png(number)), ("txt", "\n".join(captions(number)).encode())):
                    member = tarfile.TarInfo(f"{number:08d}.{ending}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
    return ["webdataset", str(folder)]


def write_rows(folder: Path, images: int, order: str) -> list[str]:
    """A Parquet file with a row per caption, neighbors or shuffled; returns the arguments of a build."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = np.arange(images * CAPTIONS)
    if order == "shuffled":
        np.random.default_rng(0).shuffle(rows)
    schema = pa.schema({"filepath": pa.binary(), "title": pa.string()})
    with pq.ParquetWriter(folder / "t.parquet", schema) as file:
        for part in np.array_split(rows, max(1, len(rows) // 5000)):
            numbers, which = np.divmod(part, CAPTIONS)
            texts = [captions(number)[each] for number, each in zip(numbers, which, strict=True)]
            file.write_table(pa.table({"filepath": [png(number) for number in numbers], "title": texts}, schema))
    return ["parquet", str(folder / "t.parquet")]


def main() -> None:
    """Prints a line for each number of images."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--rows", choices=("neighbors", "shuffled"), help="a row per caption, in place of shards")
    parser.add_argument("--size", type=int, default=16)
    options = parser.parse_args()
    for images in (options.images // 100, options.images):
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder)
            arguments = write_rows(place, images, options.rows) if options.rows else write_shards(place, images)
            code = "import sys, resource; from gaptune.cli import cli; cli(sys.argv[1:], standalone_mode=False); "
            code += "print('peak', resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
            words = ["data", "build", *arguments, "--out", str(place / "store"), "--size", str(options.size)]
            words += ["--context", "32", "--val-fraction", "0"]
            before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
            ran = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=True)
            seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
            cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            peak = int(ran.stdout.split()[-1]) / 1e3
            print(ran.stdout.splitlines()[1])
            print(
                f"{images:,} images: {seconds:.0f} s, {cpu:.0f} s of CPU, at most {peak:,.0f} MB resident", flush=True
            )


if __name__ == "__main__":
    main()
