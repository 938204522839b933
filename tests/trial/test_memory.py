"""A training's memory does not grow with its data."""

import os
import subprocess
import sys

import numpy as np
import pytest

from gaptune.data import StoreWriter
from gaptune.data.tokens import tokenize

FULL = os.environ.get("GAPTUNE_SOAK") == "full"
SIDE = 224
TRAIN = """
import sys
from gaptune.config import TrialConfig
from gaptune.data.open import open_store; from gaptune.data.store import reader as store
from gaptune.trial import order, train

if sys.argv[2] == "small":
    store.LARGE, store.WINDOW, order.WINDOW, order.BLOCK = 2**26, 2**25, 2**25, 2**22
config = TrialConfig.model_validate({"training": {"epochs": 1}, "model": {"name": "scenes-tiny"}})
(report,) = train(config, open_store(sys.argv[1]))
with open("/proc/self/status") as lines:
    print(next(int(line.split()[1]) / 1e6 for line in lines if line.startswith("VmHWM")))
print(report.metrics["time/samples_per_s"], file=sys.stderr)
"""


def write(path, gigabytes):
    """Noise, but no two images the same."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (256, SIDE, SIDE, 3), dtype=np.uint8)
    tokens = tokenize(["a dog"], 16)
    with StoreWriter(path, SIDE, 16) as writer:
        for split, n in (("train", int(gigabytes * 1e9 / noise[0].nbytes)), ("val", 64)):
            for row in range(n):
                image = noise[row % 256]
                image[0, 0] = (row % 256, row // 256 % 256, row // 65536)
                writer.add(split, image, ["a dog"], tokens, id=str(row))
        writer.finish(name="big", source={})
    return path


def peak(path, windows):
    """Gigabytes of resident memory at most, in a process of its own."""
    ran = subprocess.run(
        [sys.executable, "-c", TRAIN, str(path), windows], capture_output=True, text=True, check=True, timeout=3600
    )
    print(f"{path.name}: {ran.stdout.strip()} GB resident at most, {float(ran.stderr.split()[-1]):.0f} images/s")
    return float(ran.stdout)


@pytest.mark.soak
def test_large_store_trains_in_250_mb_beside_the_model(tmp_path):
    little = peak(write(tmp_path / "little", 0.03), "small")
    assert peak(write(tmp_path / "big", 1 if FULL else 0.5), "small") < little + 0.25


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.skipif(not FULL, reason="20 GB of disk and ten minutes: GAPTUNE_SOAK=full")
def test_store_of_20_gb_trains_with_under_2_gb_of_resident_memory(tmp_path):
    assert peak(write(tmp_path / "big", 20), "default") < 2
