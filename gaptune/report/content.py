"""What a report tells of a sweep, as plain data for the page's script."""

from __future__ import annotations

import math
import shlex
import statistics
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from gaptune.ledger import State, SweepRecord, TrialRecord
from gaptune.metrics.table import find_metric
from gaptune.report.features import projection
from gaptune.results import Candidate, summarize
from gaptune.results.correlation import correlations
from gaptune.results.failures import unfinished
from gaptune.results.headline import headline
from gaptune.results.history import Step, history
from gaptune.results.importance import importances
from gaptune.results.plots.styles import look
from gaptune.results.rerun import train_words
from gaptune.results.selection import knee
from gaptune.results.unknown import Why
from gaptune.text.output import printable
from gaptune.tracking.links import run_links

_MOST_CURVE_NUMBERS = 40_000
"""Of curves in a page: all metrics of about 70 trials of 20 epochs, in 300 kB."""
_MOST_PCA = 8
_MOST_STEPS = 500

Group = list[TrialRecord]


def content(record: SweepRecord, folder: Path, *, mlflow_url: str, price: float | None) -> dict[str, Any]:
    """Everything that the page shows.

    A row of ``rows`` is a set of parameters: scores are means over its seeds, its number that of the first.

    Args:
        record: The sweep, or a view of it.
        folder: Its folder.
        mlflow_url: Where MLflow's pages are.
        price: Of a GPU-hour, or of a core-hour without GPUs.

    Returns:
        What JSON can hold; numbers that are not finite are None, and control characters in texts are escaped.
    """
    summary, found, fractions = summarize(record), correlations(record), importances(record)
    groups = list(record.candidates().values())
    on_front = [member.trial.number for member in summary.front]
    metrics = list(dict.fromkeys(metric for trial in record.trials.values() for metric in trial.last))
    told = {
        "name": record.name,
        "headline": headline(record, summary, found),
        "objectives": [{"metric": o.metric, "maximize": o.maximize} for o in record.objectives],
        "constraints": [str(one) for one in record.constraints],
        "metrics": {metric: _about(metric) for metric in metrics},
        "rows": _rows(record, groups),
        "looks": {method: asdict(look(method)) for method in sorted({group[0].method for group in groups})},
        **_scores(record, groups, metrics),
        **_params(record, groups),
        "front": on_front,
        "picks": _picks(record, summary.front),
        "seeds": record.seeds,
        "curves": _curves(groups, on_front),
        "importance": [asdict(one) for one in fractions],
        "no_importance": {metric: str(reason) for metric, reason in fractions.unknown.items()},
        "correlations": [
            asdict(one) for one in found if one.unknown is None or one.unknown.why is not Why.NOT_MEASURED
        ],
        "unknown": None if summary.unknown is None else str(summary.unknown),
        "history": [asdict(step) for step in _thinned(history(record))],
        "unfinished": [{**asdict(one), "state": str(one.state)} for one in unfinished(record)],
        "pca": _projections(folder, summary.front),
        "mlflow": _mlflow(folder, mlflow_url),
        "train": _train(record),
        "show": shlex.join(["gaptune", "show", record.name]),
        "confirm": shlex.join(["gaptune", "confirm", record.name]),
        "cost": _cost(record, price),
        "again": _again(record),
    }
    return dict(_plain(told))


def _rows(record: SweepRecord, groups: Sequence[Group]) -> dict[str, Any]:
    states = [State.together(trial.state for trial in group) for group in groups]
    return {
        "trial": [group[0].number for group in groups],
        "trials": [[trial.number for trial in group] for group in groups],
        "method": [group[0].method for group in groups],
        "state": [str(state) for state in states],
        "reason": [next((trial.reason for trial in group if trial.reason), None) for group in groups],
        "broken": [
            [str(one) for one in Candidate.of(record, group).broken] if state is State.COMPLETE else None
            for group, state in zip(groups, states, strict=True)
        ],
        "epochs": [sum(trial.epoch for trial in group) for group in groups],
        "minutes": [sum(map(_seconds, group)) / 60 for group in groups],
    }


def _about(metric: str) -> dict[str, str]:
    score = find_metric(metric)
    if score is None:
        return {"unit": "", "direction": "none", "meaning": metric}
    return {"unit": score.unit, "direction": score.direction, "meaning": score.meaning}


def _scores(record: SweepRecord, groups: Sequence[Group], metrics: Sequence[str]) -> dict[str, Any]:
    """Means of the seeds that have reported, and the standard errors of those means."""
    values = {
        metric: [[trial.last.get(metric) for trial in group if trial.reports] for group in groups] for metric in metrics
    }
    told = {"scores": {metric: [_mean(each) for each in of] for metric, of in values.items()}}
    errors = {metric: [_error(each) for each in of] for metric, of in values.items()} if record.seeds > 1 else {}
    return {**told, "errors": errors}


def _mean(values: Sequence[float | None]) -> float | None:
    """None where a seed lacks the metric, as in the tables: the others' mean would be of another set of seeds."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None


def _error(values: Sequence[float | None]) -> float | None:
    if _mean(values) is None or len(values) < 2:
        return None
    return statistics.stdev(value for value in values if value is not None) / math.sqrt(len(values))


def _params(record: SweepRecord, groups: Sequence[Group]) -> dict[str, Any]:
    """Values of the parameters that varied; apart from them, the rows in which a parameter does not apply."""
    varied = record.header.varied_params
    rules = {
        parameter: how if isinstance(how, dict) else {} for parameter, how in record.header.space["params"].items()
    }
    rules = {parameter: rules.get(parameter, {}) for parameter in varied}
    return {
        "params": {parameter: [group[0].params.get(parameter) for group in groups] for parameter in varied},
        "off": {
            parameter: [row for row, group in enumerate(groups) if parameter not in group[0].params]
            for parameter in varied
        },
        "choices": {parameter: rule["choice"] for parameter, rule in rules.items() if "choice" in rule},
        "log": [parameter for parameter, rule in rules.items() if "log_uniform" in rule or rule.get("log")],
    }


def _picks(record: SweepRecord, front: Sequence[Candidate]) -> dict[str, Any]:
    """The members of the front that are best in an objective, unless all are alike in it, and the knee."""
    best: dict[str, list[int]] = {}
    for index, objective in enumerate(record.objectives if front else ()):
        values = [member.values[index] for member in front]
        top = max(values) if objective.maximize else min(values)
        members = [member.trial.number for member, value in zip(front, values, strict=True) if value == top]
        best[objective.metric] = members if len(members) < len(front) or len(front) == 1 else []
    bend = knee(record, front)
    return {"best": best, "knee": bend.trial.number if isinstance(bend, Candidate) else None}


def _curves(groups: Sequence[Group], on_front: Sequence[int]) -> dict[int, Any]:
    """Every metric over training: of all trials, or of as many as there is room for.

    The front comes first, then the first of each method, then the others, evenly over the sweep.
    """
    reported = [group for group in groups if any(trial.reports for trial in group)]
    members, seen = set(on_front), set[str]()
    first: list[Group] = []
    others: list[Group] = []
    for group in sorted(reported, key=lambda group: group[0].number not in members):
        (first if group[0].number in members or group[0].method not in seen else others).append(group)
        seen.add(group[0].method)
    room = max(1, _MOST_CURVE_NUMBERS - sum(map(_numbers, first)))
    every = max(1, math.ceil(sum(map(_numbers, others)) / room))
    left, curves = _MOST_CURVE_NUMBERS, {}
    for group in first + others[::every]:
        if left > 0:
            left -= _numbers(group)
            curves.update({trial.number: _curve(trial) for trial in group if trial.reports})
    return curves


def _numbers(group: Group) -> int:
    """How many numbers the curves of a row have."""
    return sum(len(report.metrics) for trial in group for report in trial.reports)


def _curve(trial: TrialRecord) -> dict[str, Any]:
    metrics = dict.fromkeys(metric for report in trial.reports for metric in report.metrics)
    return {
        "epoch": [report.epoch for report in trial.reports],
        "metrics": {metric: [report.metrics.get(metric) for report in trial.reports] for metric in metrics},
    }


def _thinned(steps: list[Step]) -> list[Step]:
    every = math.ceil(len(steps) / _MOST_STEPS) if steps else 1
    return steps[::-1][::every][::-1]


def _projections(folder: Path, front: Sequence[Candidate]) -> dict[int, Any]:
    samples = {member.trial.number: projection(folder, member.trial) for member in front[:_MOST_PCA]}
    return {number: drawn for number, drawn in samples.items() if drawn is not None}


def _mlflow(folder: Path, url: str) -> dict[str, Any]:
    """Links to MLflow's pages. A server on the reader's own machine answers only while it is started there."""
    host = urlsplit(url).hostname or ""
    local = host in ("localhost", "::1") or host.startswith("127.")
    port = urlsplit(url).port or 5000
    needs = "gaptune ui" if port == 5000 else f"gaptune ui --port {port}"
    return {"links": run_links(folder, url), "server": host, "needs": needs if local else None}


def _train(record: SweepRecord) -> dict[str, Any]:
    """The commands that train the trials again: the words of all, and of each the places of its own."""
    commands = {number: train_words(trial) for number, trial in record.trials.items()}
    words = {word: place for place, word in enumerate(dict.fromkeys(w for words in commands.values() for w in words))}
    return {
        "words": list(words),
        "own": {number: [words[word] for word in command] for number, command in commands.items()},
    }


def _seconds(trial: TrialRecord) -> float:
    """Seconds that a trial trained and evaluated; not its waiting, nor what a killed worker lost."""
    return sum(r.metrics.get("time/train_s", 0.0) + r.metrics.get("time/eval_s", 0.0) for r in trial.reports)


def _cost(record: SweepRecord, price: float | None) -> dict[str, Any]:
    nodes: dict[str, dict[str, float]] = {}
    for trial in record.trials.values():
        node = nodes.setdefault(trial.node or "not started", {"trials": 0, "hours": 0.0})
        node["trials"] += 1
        node["hours"] += _seconds(trial) / 3600
    hours = sum(node["hours"] for node in nodes.values())
    gpus, cpus = record.header.gpus, record.header.cpus
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
        "command": header.command,
        "versions": header.versions,
        "data": f"{header.data.name}, SHA-256 {header.data.hash}",
        "space": yaml.safe_dump(header.space, sort_keys=False, allow_unicode=True),
        "sweep": yaml.safe_dump(header.config, sort_keys=False, allow_unicode=True),
    }


def _plain(value: Any) -> Any:
    """What JSON can hold: floats with five digits, texts without control characters."""
    if isinstance(value, dict):
        return {printable(str(key)): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, float):
        return float(f"{value:.5g}") if math.isfinite(value) else None
    return value
