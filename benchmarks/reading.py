"""How long commands take on a sweep of many trials: ``python benchmarks/reading.py [--candidates 10000]``.

The sweep is the recorded one with its trials repeated, each report with noise of its own.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from gaptune.ledger import FILE_NAME, encode, read_events
from gaptune.storage.bundled import example

COMMANDS = {
    "front": [],
    "importance": [],
    "correlations": [],
    "show": ["7"],
    "report": [],
}


def ledger_of(trials: int) -> bytes:
    """The example sweep's ledger with so many trials."""
    events, _ = read_events(example())
    plain = [{key: value for key, value in event.items() if key != "crc"} for event in events]
    kinds = len({event["trial"] for event in plain if "trial" in event})
    own = [[event for event in plain if event.get("trial") == number] for number in range(kinds)]
    rng = np.random.default_rng(0)
    lines = [encode(plain[0])]
    for number in range(trials):
        for event in own[number % kinds]:
            again = event | {"trial": number}
            if event["event"] == "trial":
                again["candidate"] = number
                middle = {
                    "temperature.tau_start": 0.1,
                    "temperature.tau_end": 0.1,
                    "temperature.schedule_fraction": 0.5,
                }
                apart = number / 1e7  # so that no two have the same parameters
                moved = {k: v + (middle[k] - v) * apart for k, v in event["params"].items() if k in middle}
                again["params"] = event["params"] | moved
            if event["event"] == "report":
                again["metrics"] = {k: v * (1 + 0.1 * rng.standard_normal()) for k, v in event["metrics"].items()}
            lines.append(encode(again))
    return b"".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--candidates", type=int, default=10_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "many").mkdir()
        (Path(folder) / "many" / FILE_NAME).write_bytes(ledger_of(arguments.candidates))
        for command, more in COMMANDS.items():
            name, *options = command.split()
            words = [sys.executable, "-m", "gaptune.cli", name, "many", *more, *options, "--results", folder]
            taken = []
            for _ in range(3):
                started = time.perf_counter()
                subprocess.run(words, check=True, capture_output=True)
                taken.append(time.perf_counter() - started)
            print(f"gaptune {command}: {min(taken):.2f} to {max(taken):.2f} s with {arguments.candidates:,} trials")


if __name__ == "__main__":
    main()
