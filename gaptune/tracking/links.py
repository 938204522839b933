"""Addresses of MLflow's pages, found without MLflow."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

RUNS_FILE = "mlflow.json"
"""In a sweep's folder: which MLflow run belongs to which trial."""

LOCAL = "http://127.0.0.1:5000"
_TRAINING = "workflowType=machine_learning"  # without it MLflow 3.17 opens on its pages for agents, which hide runs


def read_runs(folder: Path) -> dict[str, Any] | None:
    """Which MLflow run is whose, as the sweep's folder knows it: ``experiment``, ``sweep``, and ``trials`` by number.

    Returns:
        None for a sweep that MLflow has never seen, and where the file is damaged: ``gaptune sync`` writes it again.
    """
    try:
        runs = json.loads((folder / RUNS_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    whole = isinstance(runs, dict) and isinstance(runs.get("experiment"), str) and isinstance(runs.get("trials"), dict)
    return runs if whole else None


def run_links(folder: Path, server: str) -> dict[str, str]:
    """The page of each trial of the sweep in a folder, by number; empty for a sweep that MLflow has never seen."""
    runs = read_runs(folder)
    if runs is None:
        return {}
    base = f"{server.rstrip('/')}/#/experiments/{runs['experiment']}/runs"
    return {number: f"{base}/{run}?{_TRAINING}" for number, run in runs["trials"].items()}


def experiment_link(results: Path, server: str) -> str:
    """The page of the experiment that holds all sweeps, as the newest of them knows it; else MLflow's first page."""
    newest = max(results.glob(f"*/{RUNS_FILE}"), key=lambda path: path.stat().st_mtime, default=None)
    runs = read_runs(newest.parent) if newest is not None else None
    if runs is None:
        return server
    return f"{server.rstrip('/')}/#/experiments/{runs['experiment']}/runs?{_TRAINING}"
