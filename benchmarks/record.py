"""Records the learning curves that ``benchmarks/early_stopping.py`` replays.

Trains random draws of ``search_spaces/temp.yaml`` to the end, on the embedded data or on Flickr8k (whose store must be
there: see ``sweeps/flickr8k.yaml``; run it where that file's ``data.store`` is right). Flickr8k's images have 48
pixels instead of the sweep's 64.

    python benchmarks/record.py embedded --candidates 60
"""

from __future__ import annotations

import argparse
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

from gaptune.ledger import load
from gaptune.simulation.curves import write_curves

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sweep", choices=["embedded", "flickr8k"])
    parser.add_argument("--candidates", type=int, default=60)
    parser.add_argument("--results", type=Path, default=Path("results"))
    arguments = parser.parse_args()
    sweep = yaml.safe_load((ROOT / f"sweeps/{arguments.sweep}.yaml").read_text())
    sweep["search"] = {"sampler": "random", "candidates": arguments.candidates, "seed": 20}
    if arguments.sweep == "flickr8k":
        sweep["model"]["image_size"] = 48  # in place of 64: 0.6 of the time
    space = yaml.safe_load((ROOT / "search_spaces/temp.yaml").read_text())
    del space["points_to_evaluate"]
    name = f"curves-{arguments.sweep}"
    with tempfile.TemporaryDirectory() as folder:
        files = Path(folder) / "temp.yaml", Path(folder) / "sweep.yaml"
        for file, content in zip(files, (space, sweep), strict=True):
            file.write_text(yaml.safe_dump(content, sort_keys=False))
        command = [
            "sweep",
            str(files[0]),
            "--config",
            str(files[1]),
            "--name",
            name,
            "--results",
            str(arguments.results),
        ]
        subprocess.run([sys.executable, "-m", "gaptune.cli", *command], check=True)
    about = {
        "command": f"python benchmarks/record.py {arguments.sweep} --candidates {arguments.candidates}",
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{platform.processor() or platform.machine()}, CPU",
    }
    out = ROOT / f"benchmarks/curves/{arguments.sweep}.parquet"
    count = write_curves(load(arguments.results / name), out, about)
    print(f"{count} curves in {out} ({out.stat().st_size / 1024:.0f} KiB)")


if __name__ == "__main__":
    main()
