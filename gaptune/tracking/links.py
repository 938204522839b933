"""Addresses in the MLflow UI, found without MLflow."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

RUNS_FILE = "mlflow.json"
"""File in a sweep's directory: which MLflow run belongs to which trial."""

LOCAL = "http://127.0.0.1:5000"
_TRAINING = "workflowType=machine_learning"  # without it MLflow 3.17 opens its view for agents, which hides runs


def read_runs(folder: Path) -> dict[str, Any] | None:
    """MLflow's ids from the sweep's directory: ``experiment``, ``sweep``, and ``trials`` by number.

    Returns:
        None if MLflow has no run of the sweep, or the file is damaged; ``gaptune sync`` writes it.
    """
    try:
        runs = json.loads((folder / RUNS_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    whole = isinstance(runs, dict) and isinstance(runs.get("experiment"), str) and isinstance(runs.get("trials"), dict)
    return runs if whole else None


def run_links(folder: Path, server: str) -> dict[str, str]:
    """Links to the runs of a sweep's trials, by number; empty if MLflow has no run of the sweep."""
    runs = read_runs(folder)
    if runs is None:
        return {}
    base = f"{server.rstrip('/')}/#/experiments/{runs['experiment']}/runs"
    return {number: f"{base}/{run}?{_TRAINING}" for number, run in runs["trials"].items()}


def experiment_link(results: Path, server: str) -> str:
    """Link to the experiment of all sweeps, by the newest sweep that knows it; otherwise to MLflow's start page."""
    newest = max(results.glob(f"*/{RUNS_FILE}"), key=lambda path: path.stat().st_mtime, default=None)
    runs = read_runs(newest.parent) if newest is not None else None
    if runs is None:
        return server
    return f"{server.rstrip('/')}/#/experiments/{runs['experiment']}/runs?{_TRAINING}"
