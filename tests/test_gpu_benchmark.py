"""The benchmark for a lent GPU, in miniature on the CPU: it must not fail for the first time when minutes count."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
NOT_NEEDED = ("ray", "mlflow", "optuna", "rich", "sklearn", "pandas", "matplotlib", "psutil", "scipy")


@pytest.mark.whole
def test_the_gpu_benchmark_runs_without_what_only_sweeps_need(tmp_path):
    for name in NOT_NEEDED:
        (tmp_path / f"{name}.py").write_text(f"raise ModuleNotFoundError('no {name} here', name='{name}')")
    path = os.pathsep.join([str(tmp_path), str(ROOT), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "benchmarks/gpu.py", "--device", "cpu", "--small", "--out", tmp_path / "gpu.json"]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads((tmp_path / "gpu.json").read_text())
    assert all(each["pairs_per_s"] > 0 for part in ("speed", "open_clip") for each in results[part]["result"].values())
    assert "pairs/s" in done.stdout
