"""Addresses of MLflow's pages, found without MLflow."""

from __future__ import annotations

import json
from pathlib import Path

RUNS_FILE = "mlflow.json"
"""In a sweep's folder: which MLflow run belongs to which trial."""

LOCAL = "http://127.0.0.1:5000"
_TRAINING = "workflowType=machine_learning"  # without it MLflow 3.17 opens on its pages for agents, which hide runs


def run_links(folder: Path, server: str) -> dict[str, str]:
    """The page of each trial of the sweep in a folder, by number; empty for a sweep that MLflow has never seen."""
    path = folder / RUNS_FILE
    if not path.exists():
        return {}
    runs = json.loads(path.read_text(encoding="utf-8"))
    base = f"{server.rstrip('/')}/#/experiments/{runs['experiment']}/runs"
    return {number: f"{base}/{run}?{_TRAINING}" for number, run in runs["trials"].items()}


def experiment_link(results: Path, server: str) -> str:
    """The page of the experiment that holds all sweeps, as the newest of them knows it; else MLflow's first page."""
    newest = max(results.glob(f"*/{RUNS_FILE}"), key=lambda path: path.stat().st_mtime, default=None)
    if newest is None:
        return server
    experiment = json.loads(newest.read_text(encoding="utf-8"))["experiment"]
    return f"{server.rstrip('/')}/#/experiments/{experiment}/runs?{_TRAINING}"
