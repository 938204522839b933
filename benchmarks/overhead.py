"""What a sweep costs beside its trainings: two trials at a time against half the sum of bare ``train()`` times.

Runs the same trials twice: as a sweep with ``--concurrency 2``, and bare, one after the other in one thread, half of
them before the sweep and half after it, since a machine's speed drifts. Wants two free cores.

    python benchmarks/overhead.py [--candidates 16] [--epochs 6]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from gaptune.ledger import load

ROOT = Path(__file__).resolve().parent.parent

BARE = """
import json, sys, time
import torch
from gaptune.config import load_sweep_config, with_params
from gaptune.data.open import open_store
from gaptune.trial import train
from gaptune.trial.allocator import keep_freed_memory

torch.set_num_threads(1)
keep_freed_memory()
config, taus = load_sweep_config(sys.argv[1]), json.loads(sys.argv[2])
store = open_store(config.data.store)
for tau in taus:
    started = time.perf_counter()
    list(train(config.trial({"temperature.schedule": "constant", "temperature.tau_start": tau}), store))
    print(time.perf_counter() - started, flush=True)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--candidates", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=6)
    arguments = parser.parse_args()
    taus = [round(0.03 * 1.15**number, 4) for number in range(arguments.candidates)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sweep, space = folder / "sweep.yaml", folder / "space.yaml"
        text = (ROOT / "sweeps/embedded.yaml").read_text()
        sweep.write_text(text.replace("epochs: 6", f"epochs: {arguments.epochs}").replace("tpe", "grid"))
        space.write_text(
            f"grid: true\nparams:\n  temperature.schedule: constant\n  temperature.tau_start: {{choice: {taus}}}\n"
        )
        middle = len(taus) // 2
        seconds = bare(sweep, taus[:middle])
        started = time.perf_counter()
        command = [
            sys.executable,
            "-m",
            "gaptune.cli",
            "sweep",
            str(space),
            "--config",
            str(sweep),
            "--name",
            "overhead",
        ]
        command += ["--concurrency", "2", "--results", str(folder / "results")]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=ROOT)
        wall = time.perf_counter() - started
        seconds += bare(sweep, taus[middle:])
        trials = load(folder / "results" / "overhead").trials.values()
    half = sum(seconds) / 2
    inside = sum(r.metrics["time/train_s"] + r.metrics["time/eval_s"] for trial in trials for r in trial.reports)
    print(f"bare train(), each: {', '.join(f'{value:.1f}' for value in seconds)} s; half the sum {half:.1f} s")
    print(f"sweep, two at a time: {wall:.1f} s; {wall / half:.3f} times half the sum")
    print(f"of which training and evaluating, half of what the trials report: {inside / 2:.1f} s")


def bare(sweep: Path, taus: list[float]) -> list[float]:
    """Seconds of each training, in a process of their own."""
    command = [sys.executable, "-c", BARE, str(sweep), str(taus)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
    return [float(line) for line in done.stdout.split()]


if __name__ == "__main__":
    main()
