"""What a sweep costs beside its trainings: two trials at a time against half the sum of bare ``train()`` times.

Runs the same trials twice: bare, one after the other in one thread, then as a sweep with ``--concurrency 2``.
Wants two free cores.

    python benchmarks/overhead.py [--trials 8] [--epochs 6]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

BARE = """
import json, sys, time
import torch
from gaptune.config import load_sweep_config, with_knobs
from gaptune.data import open_store
from gaptune.trial import train

torch.set_num_threads(1)
config, taus = load_sweep_config(sys.argv[1]), json.loads(sys.argv[2])
store = open_store(config.data.store)
for tau in taus:
    started = time.perf_counter()
    list(train(config.trial({"temperature.schedule": "constant", "temperature.tau_start": tau}), store))
    print(time.perf_counter() - started, flush=True)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=6)
    arguments = parser.parse_args()
    taus = [round(0.03 * 1.25**number, 4) for number in range(arguments.trials)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sweep, space = folder / "sweep.yaml", folder / "space.yaml"
        text = (ROOT / "sweeps/embedded.yaml").read_text()
        sweep.write_text(text.replace("epochs: 6", f"epochs: {arguments.epochs}").replace("tpe", "grid"))
        space.write_text(
            f"grid: true\nknobs:\n  temperature.schedule: constant\n  temperature.tau_start: {{choice: {taus}}}\n"
        )
        bare = subprocess.run(
            [sys.executable, "-c", BARE, str(sweep), str(taus)],
            check=True,
            capture_output=True,
            text=True,
            cwd=ROOT,
        )
        seconds = [float(line) for line in bare.stdout.split()]
        started = time.perf_counter()
        command = [
            sys.executable,
            "-m",
            "gaptune.cli",
            "sweep",
            str(space),
            "--on",
            str(sweep),
            "--concurrency",
            "2",
        ]
        subprocess.run(
            [*command, "--results", str(folder / "results")], check=True, stdout=subprocess.DEVNULL, cwd=ROOT
        )
        wall = time.perf_counter() - started
    half = sum(seconds) / 2
    print(f"bare train(), each: {', '.join(f'{value:.1f}' for value in seconds)} s; half the sum {half:.1f} s")
    print(f"sweep, two at a time: {wall:.1f} s; {wall / half:.3f} times half the sum")


if __name__ == "__main__":
    main()
