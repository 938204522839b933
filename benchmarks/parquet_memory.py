"""The most memory that reading a Parquet file of embedded images needs, for two sizes of the file.

python benchmarks/parquet_memory.py          # 0.6 and 1.8 GB in a temporary folder
python benchmarks/parquet_memory.py 60 180   # as many images of 1 MB
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

_GROUP = 20


def write(file: Path, images: int) -> None:
    """Images of 1 MB, which is noise, in row groups of 20."""
    rng = np.random.default_rng(0)
    schema = pa.schema({"filepath": pa.binary(), "title": pa.string()})
    with pq.ParquetWriter(file, schema, compression="none", use_dictionary=False) as writer:
        for _ in range(images // _GROUP):
            content = pa.array([rng.bytes(10**6) for _ in range(_GROUP)], pa.binary())
            writer.write_table(pa.table({"filepath": content, "title": ["a caption"] * _GROUP}, schema))


def read(file: str) -> None:
    """Reads a file as a build does, and prints the largest size of this process."""
    from gaptune.data.sources import find_source

    source = find_source(f"parquet:{file}")
    images = sum(1 for _ in source.samples("train"))
    print(f"{images} images of 1 MB: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000:.0f} MB at most")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=int, nargs="*", default=[600, 1800])
    parser.add_argument("--read", metavar="FILE", help="read this file instead: what each process of its own does")
    arguments = parser.parse_args()
    if arguments.read:
        read(arguments.read)
        return
    for images in arguments.images:
        with tempfile.TemporaryDirectory() as folder:
            write(Path(folder) / "images.parquet", images)
            subprocess.run([sys.executable, __file__, "--read", f"{folder}/images.parquet"], check=True)


if __name__ == "__main__":
    main()
