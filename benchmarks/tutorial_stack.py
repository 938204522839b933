"""A whole sweep by gaptune beside the same sweep as a tutorial has it (``tutorial.py``), in turns.

    python benchmarks/tutorial_stack.py [--data DIR] [--rounds 1] [--candidates 8] [--epochs 2] [--stored 72]

Both train ``photos-small`` on Flickr8k at 64 pixels with batches of 128, random crops and flips, two trials in parallel
on two cores, measure retrieval on all validation captions after each epoch, and log to MLflow (SQLite). The tutorial
reads JPEGs in a worker of the ``DataLoader``; gaptune reads its data store, and the time to build it is printed apart.
Both sweeps count from starting Python to its end. CPU seconds are those of all processes, also of Ray's.
"""

from __future__ import annotations

import argparse
import ctypes
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil
from flickr8k import add_data_option, build_store, unpacked

HERE = Path(__file__).resolve().parent
SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER: processes whose parents have ended stay below this one
LOOK_EVERY = 0.3  # seconds; the last of a process's time that can be missed

SWEEP = """\
model: {{name: photos-small}}
data: {{store: {store}}}
training: {{epochs: {epochs}, batch_size: 128}}
optimizer: {{warmup: 0.1}}
augment: {{crop_min: 0.6, flip: true}}
objectives:
  - {{metric: retrieval/mean_r10, reference: 0.0, ideal: 0.5}}
  - {{metric: uniformity/w2, reference: -1.414, ideal: -0.5}}
search: {{sampler: tpe, candidates: {trials}, startup_trials: 8, seed: 0}}
resources: {{cpu: 1, gpu: 0}}
"""
SPACE = "params:\n  optimizer.lr: {log_uniform: [5e-4, 5e-3]}\n  temperature.tau_init: {log_uniform: [0.02, 0.2]}\n"


def gaptune_sweep(folder: Path, store: Path, trials: int, epochs: int) -> list[str]:
    """The command of gaptune's sweep, whose files it writes."""
    folder.mkdir()
    (folder / "sweep.yaml").write_text(SWEEP.format(store=store, trials=trials, epochs=epochs))
    (folder / "space.yaml").write_text(SPACE)
    command = [sys.executable, "-m", "gaptune.cli", "sweep", str(folder / "space.yaml"), "--name", "sweep"]
    command += ["--config", str(folder / "sweep.yaml"), "--concurrency", "2", "--results", str(folder / "results")]
    return command


def tutorial_sweep(folder: Path, photographs: Path, trials: int, epochs: int) -> list[str]:
    """The command of the tutorial's sweep."""
    command = [sys.executable, str(HERE / "tutorial.py"), "--photographs", str(photographs), "--out", str(folder)]
    return [*command, "--candidates", str(trials), "--epochs", str(epochs)]


def seconds(run: Callable[[], subprocess.Popen[bytes]]) -> tuple[float, float]:
    """Wall seconds of a command, and CPU seconds of it and all processes that it started."""
    started, spent, me = time.perf_counter(), {}, psutil.Process()
    process = run()
    while process.poll() is None or me.children():
        for each in me.children(recursive=True):
            try:
                times = each.cpu_times()
                spent[each.pid, each.create_time()] = times.user + times.system
                if each.status() == psutil.STATUS_ZOMBIE and each.ppid() == me.pid and each.pid != process.pid:
                    each.wait(0)
            except (psutil.NoSuchProcess, psutil.TimeoutExpired):
                continue
        time.sleep(LOOK_EVERY)
    if process.returncode:
        raise SystemExit(f"{process.args} ended with {process.returncode}")
    return time.perf_counter() - started, sum(spent.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_data_option(parser)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--candidates", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--stored", type=int, default=72, help="side of the stored images (default: %(default)s)")
    arguments = parser.parse_args()
    ctypes.CDLL(None).prctl(SUBREAPER, 1, 0, 0, 0)
    taken: dict[str, list[tuple[float, float]]] = {"tutorial": [], "gaptune": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        photographs = unpacked(arguments.data, folder)
        started = time.perf_counter()
        store = build_store(photographs, folder / "store", arguments.stored)
        print(f"gaptune's data store, built once: {time.perf_counter() - started:.0f} s", flush=True)
        for number in range(arguments.rounds):
            for stack in taken:
                make, data = (gaptune_sweep, store) if stack == "gaptune" else (tutorial_sweep, photographs)
                command = make(folder / f"{stack}-{number}", data, arguments.candidates, arguments.epochs)
                wall, cpu = seconds(lambda command=command: subprocess.Popen(command, stdout=subprocess.DEVNULL))
                taken[stack].append((wall, cpu))
                print(f"{stack:9} {wall:6.0f} s, {cpu:6.0f} s of CPU", flush=True)
    for at, what in enumerate(("time", "CPU time")):
        theirs, mine = (statistics.median(each[at] for each in taken[stack]) for stack in ("tutorial", "gaptune"))
        print(f"{what}: the tutorial's sweep takes {theirs / mine:.2f} times as long as gaptune's")


if __name__ == "__main__":
    main()
