"""Flickr8k for other benchmarks: unpacked from ``flickr8k.tar``, and as a store. Not a script."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tarfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def add_data_option(parser: argparse.ArgumentParser) -> None:
    """Adds ``--data``, the folder that holds ``flickr8k.tar``; its default is the one of the tests."""
    default = os.environ.get("GAPTUNE_TEST_DATA", ROOT.parent / "shared" / "data")
    parser.add_argument("--data", type=Path, default=default, help="folder with flickr8k.tar (default: %(default)s)")


def unpacked(data: Path, folder: Path) -> Path:
    """Unpacks the photographs and the COCO captions files into a folder, and returns where they are."""
    with tarfile.open(data / "flickr8k.tar") as tar:
        tar.extractall(folder, filter="data")
    return folder / "flickr8k"


def build_store(photographs: Path, out: Path, size: int, context: int = 32) -> Path:
    """Builds a store as ``sweeps/flickr8k.yaml`` says, but for its ``size``."""
    command = [sys.executable, "-m", "gaptune.cli", "data", "build", "coco", "--out", str(out)]
    command += ["--size", str(size), "--context", str(context)]
    for split in ("train", "val"):
        command += ["--annotations", f"{split}={photographs}/annotations/captions_{split}.json"]
        command += ["--images", f"{split}={photographs}/{split}"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return out
