"""What a report tells of a sweep, as plain data for the page's script."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml

from gaptune.ledger import State, SweepRecord, TrialRecord
from gaptune.pages import run_links
from gaptune.results import Candidate, summarize
from gaptune.results.correlation import correlations
from gaptune.results.ends import unfinished
from gaptune.results.headline import headline
from gaptune.results.history import Step, history
from gaptune.results.importance import importances
from gaptune.results.looks import look
from gaptune.scores import find_score

_CURVES = ("geometry/gap", "temperature/tau")
_MOST_CURVES = 24
_MOST_PCA = 8
_MOST_STEPS = 500


def content(record: SweepRecord, folder: Path, *, mlflow_url: str, price: float | None) -> dict[str, Any]:
    """Everything that the page shows.

    A row of ``rows`` is a set of knobs: scores are means over its seeds, its number that of the first.

    Args:
        record: The sweep, or a view of it.
        folder: Its folder.
        mlflow_url: Where MLflow's pages are.
        price: Of a GPU-hour, or of a core-hour without GPUs.

    Returns:
        What JSON can hold; numbers that are not finite are None.
    """
    summary, found = summarize(record), correlations(record)
    groups = list(record.suggestions().values())
    on_front = [member.trial.number for member in summary.front]
    firsts = [group[0] for group in groups]
    metrics = list(dict.fromkeys(metric for trial in record.trials.values() for metric in trial.last))
    varied = list(record.header["varied"])
    told = {
        "name": record.name,
        "headline": headline(record, summary, found),
        "objectives": [{"metric": o["metric"], "maximize": o["maximize"]} for o in record.objectives],
        "metrics": {metric: _about(metric) for metric in metrics},
        "rows": {
            "trial": [trial.number for trial in firsts],
            "method": [trial.method for trial in firsts],
            "state": [str(State.together(trial.state for trial in group)) for group in groups],
            "reason": [next((trial.reason for trial in group if trial.reason), None) for group in groups],
            "epochs": [sum(trial.epoch for trial in group) for group in groups],
            "minutes": [sum(map(_seconds, group)) / 60 for group in groups],
        },
        "looks": {method: asdict(look(method)) for method in sorted({trial.method for trial in firsts})},
        "scores": {metric: [_mean(group, metric) for group in groups] for metric in metrics},
        "knobs": {knob: [trial.knobs.get(knob) for trial in firsts] for knob in varied if knob != "method"},
        "log": [knob for knob, how in record.header["space"]["knobs"].items() if "log_uniform" in _rule(how)],
        "front": on_front,
        "seeds": record.header["sweep"]["search"]["seeds"],
        "curves": {
            trial.number: {
                "epoch": [report.epoch for report in trial.reports],
                **{metric: [report.metrics.get(metric) for report in trial.reports] for metric in _CURVES},
            }
            for trial in _worth_a_curve(firsts, on_front)
        },
        "importance": [asdict(one) for one in importances(record)],
        "correlations": [asdict(one) for one in found],
        "history": [asdict(step) for step in _thinned(history(record))],
        "unfinished": [{**asdict(one), "state": str(one.state)} for one in unfinished(record)],
        "pca": {member.trial.number: drawn for member in summary.front[:_MOST_PCA] if (drawn := _pca(folder, member))},
        "links": run_links(folder, mlflow_url),
        "cost": _cost(record, price),
        "again": _again(record),
    }
    return dict(_plain(told))


def _about(metric: str) -> dict[str, str]:
    score = find_score(metric)
    if score is None:
        return {"unit": "", "direction": "none", "meaning": metric}
    return {"unit": score.unit, "direction": score.direction, "meaning": score.meaning}


def _mean(group: Sequence[TrialRecord], metric: str) -> float | None:
    values = [trial.last[metric] for trial in group if metric in trial.last]
    return sum(values) / len(values) if values else None


def _seconds(trial: TrialRecord) -> float:
    """Seconds that a trial trained and evaluated; not its waiting, nor what a killed worker lost."""
    return sum(r.metrics.get("time/train_s", 0.0) + r.metrics.get("time/eval_s", 0.0) for r in trial.reports)


def _rule(how: Any) -> dict[str, Any]:
    return how if isinstance(how, dict) else {}


def _worth_a_curve(firsts: Sequence[TrialRecord], on_front: Sequence[int]) -> list[TrialRecord]:
    """The front's trials, then the first of each method."""
    chosen = [trial for trial in firsts if trial.number in set(on_front)]
    seen = {trial.method for trial in chosen}
    for trial in firsts:
        if trial.method not in seen and trial.state is State.COMPLETE:
            seen.add(trial.method)
            chosen.append(trial)
    return chosen[:_MOST_CURVES]


def _thinned(steps: list[Step]) -> list[Step]:
    every = math.ceil(len(steps) / _MOST_STEPS) if steps else 1
    return steps[::-1][::every][::-1]


def _pca(folder: Path, member: Candidate) -> dict[str, Any] | None:
    """A member's sample of features on their first two principal components; None where it has no usable one."""
    path = folder / "trials" / f"{member.trial.number:04d}" / "sample.npz"
    if not path.exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as sample:
            both: npt.NDArray[np.float64] = np.concatenate([sample["images"], sample["texts"]]).astype(np.float64)
        centered = both - both.mean(axis=0)
        left, scale, _ = np.linalg.svd(centered, full_matrices=False)
        images, texts = np.split(left[:, :2] * scale[:2], 2)
    except Exception:  # a damaged file can raise almost anything, and a report does without the picture
        return None
    return {
        "images": images.tolist(),
        "texts": texts.tolist(),
        "explained": (scale[:2] ** 2 / (scale**2).sum()).tolist(),
    }


def _cost(record: SweepRecord, price: float | None) -> dict[str, Any]:
    resources = record.header["sweep"]["resources"]
    nodes: dict[str, dict[str, float]] = {}
    for trial in record.trials.values():
        node = nodes.setdefault(trial.node or "not started", {"trials": 0, "hours": 0.0})
        node["trials"] += 1
        node["hours"] += _seconds(trial) / 3600
    hours = sum(node["hours"] for node in nodes.values())
    gpus, cpus = float(resources["gpu"]), int(resources["cpu"])
    unit, spent = ("GPU-hours", gpus * hours) if gpus else ("core-hours", cpus * hours)
    times = [trial.started_at for trial in record.trials.values() if trial.started_at is not None]
    return {
        "nodes": nodes,
        "unit": unit,
        "spent": spent,
        "money": None if price is None else price * spent,
        "epochs": sum(trial.epoch for trial in record.trials.values()),
        "full": sum(trial.epochs for trial in record.trials.values() if trial.config),
        "wall_hours": (record.updated_at - min(times)) / 3600 if times else 0.0,
        "sessions": record.sessions,
        "retries": sum(len(trial.retries) for trial in record.trials.values()),
    }


def _again(record: SweepRecord) -> dict[str, Any]:
    header = record.header
    return {
        "command": header["command"],
        "versions": header["versions"],
        "data": f"{header['data']['name']}, SHA-256 {header['data']['hash']}",
        "space": yaml.safe_dump(header["space"], sort_keys=False, allow_unicode=True),
        "sweep": yaml.safe_dump(header["sweep"], sort_keys=False, allow_unicode=True),
    }


def _plain(value: Any) -> Any:
    """What JSON can hold, floats with five digits."""
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, float):
        return float(f"{value:.5g}") if math.isfinite(value) else None
    return value
