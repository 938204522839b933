"""Correctness and speed on a GPU, in ten minutes.

    python benchmarks/gpu.py [--out gpu.json] [--parts machine smoke peak speed open_clip lanes compiled]
    python benchmarks/gpu.py --device cpu --small     # tests the benchmark itself

``smoke`` compares short trainings with the CPU and checks resuming and running out of memory; ``peak`` measures large
matrix products; ``speed`` measures the steps of RN50 and of the presets, as a trial runs them; ``open_clip`` measures
the step of ``open_clip_train.train.train_one_epoch`` on data in pinned memory; ``lanes`` measures up to 64 small
trainings that run as one; ``compiled`` measures RN50 with compiled towers. Each part runs in a process and within a
time of its own. The results are written as JSON after each part; the exit code is 1 if a part or a check has failed.

It needs gaptune's code and, of its dependencies, only these: torch, torchvision, open_clip_torch, pyarrow, pydantic,
pyyaml, orjson, and what they bring along. It needs no ray, mlflow, optuna, rich, scikit-learn. Without installing it:

    uv pip install torch torchvision open_clip_torch pyarrow pydantic pyyaml orjson
    PYTHONPATH=. python benchmarks/gpu.py
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import platform
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from gpu_data import Setting
from gpu_lanes import lanes
from gpu_smoke import failed, smoke
from gpu_speed import compiled, open_clip, peak, speed

import gaptune


def machine(setting: Setting) -> dict[str, str]:
    """What the results belong to."""
    of_card = {}
    if setting.device == "cuda":
        card = torch.cuda.get_device_properties(0)
        of_card = {"card": card.name, "memory": f"{card.total_memory / 2**30:.0f} GiB"}
    versions = {"torch": torch.__version__, "CUDA": str(torch.version.cuda), "Python": platform.python_version()}
    return {**of_card, **versions, "gaptune": gaptune.__version__, "date": time.strftime("%Y-%m-%d")}


PARTS: dict[str, tuple[Callable[[Setting], Mapping[str, Any]], int]] = {
    "machine": (machine, 60),
    "smoke": (smoke, 180),
    "peak": (peak, 60),
    "speed": (speed, 180),
    "open_clip": (open_clip, 90),
    "lanes": (lanes, 120),
    "compiled": (compiled, 180),
}
"""Each part, and the most seconds that it may take."""


def in_a_process(name: str, setting: Setting, seconds: float) -> dict[str, Any]:
    """Runs a part in a process of its own, so that an error, an exhausted card, or a hang is only its own."""
    out = setting.folder / f"{name}.json"
    started = time.perf_counter()
    # Forked, because nothing here has touched the card yet: what has been imported is there.
    process = multiprocessing.get_context("fork").Process(target=run, args=(name, setting, out))
    process.start()
    process.join(seconds)
    if process.is_alive():
        process.kill()
        process.join()
        return {"error": f"took more than {seconds:.0f} s"}
    if not out.exists():
        return {"error": f"its process ended with {process.exitcode}"}
    return {**json.loads(out.read_text()), "seconds": round(time.perf_counter() - started, 1)}


def run(name: str, setting: Setting, out: Path) -> None:
    """Writes the result of a part, or its error, to a file."""
    if setting.small:
        torch.set_num_threads(1)
    try:
        found = {"result": PARTS[name][0](setting)}
    except Exception as error:  # whatever it is, it belongs into the results
        traceback.print_exc()
        found = {"error": f"{type(error).__name__}: {error}"[:500]}
    out.write_text(json.dumps(found))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("gpu.json"))
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--seconds", type=float, default=570.0, help="for everything")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--small", action="store_true", help="as small as it gets: a test, no measurement")
    arguments = parser.parse_args()
    ends, results = time.monotonic() + arguments.seconds, {}
    with tempfile.TemporaryDirectory() as folder:
        setting = Setting(arguments.device, arguments.small, Path(folder))
        for name in arguments.parts:
            seconds = ends - time.monotonic()
            if not arguments.small:
                seconds = min(PARTS[name][1], seconds)
            results[name] = in_a_process(name, setting, seconds) if seconds > 0 else {"error": "no time was left"}
            arguments.out.write_text(json.dumps(results, indent=1))
            print(*lines(name, results), sep="\n", flush=True)
    sys.exit(any(part_failed(name, each) for name, each in results.items()))


def part_failed(name: str, part: Mapping[str, Any]) -> bool:
    """Whether a part, a check, or a case has failed."""
    found = part.get("result", {}).values()
    in_it = (
        any(map(failed, found)) if name == "smoke" else any("error" in each for each in found if isinstance(each, dict))
    )
    return "error" in part or in_it


def lines(name: str, results: Mapping[str, Any]) -> list[str]:
    """The rows of a part in the table."""
    part = results[name]
    if "error" in part:
        return [f"{name:10} {part['error']}"]
    rows = []
    for what, value in part["result"].items():
        if name == "peak":
            value = f"{value:.4g} TFLOP/s"
        elif name == "lanes":
            value = "trial steps/s by lanes: " + ", ".join(f"{number}: {each:,.0f}" for number, each in value.items())
        elif name in ("speed", "open_clip", "compiled"):
            value = described(what, value, results)
        rows.append(f"{name:10} {what:52} {value}")
    return [*rows, f"{name:10} {'':52} {part['seconds']} s"]


def described(case: str, found: Mapping[str, Any], results: Mapping[str, Any]) -> str:
    """The speed of a case in words; of open_clip's also that of gaptune beside it."""
    if "error" in found:
        return str(found["error"])
    words = [f"{found['pairs_per_s']:,.0f} pairs/s", f"{found['step_ms']:.1f} ms a step"]
    most = results.get("peak", {}).get("result", {}).get("bf16")
    if "step_tflop" in found and most:
        share = 1000 * found["step_tflop"] / found["step_ms"] / most
        words.append(f"{found['step_tflop']:.3g} TFLOP a step, {share:.1%} of the bf16 peak")
    for name, text in (("idle", "idle {:.1%}"), ("memory_gib", "{:.1f} GiB")):
        if found.get(name) is not None:
            words.append(text.format(found[name]))
    mine = results.get("speed", {}).get("result", {}).get(case, {})
    if "step_tflop" not in found and "pairs_per_s" in mine:
        words.append(f"gaptune {mine['pairs_per_s'] / found['pairs_per_s']:.2f} times as fast")
    return ", ".join(words)


if __name__ == "__main__":
    main()
