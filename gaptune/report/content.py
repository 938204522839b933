"""The content of a report, as plain data for the page's script: a function for each section."""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from gaptune.ledger import State, SweepRecord, TrialRecord
from gaptune.ledger.candidate import Candidate
from gaptune.metrics.table import find_metric
from gaptune.report.features import projection
from gaptune.results import summarize
from gaptune.results.correlation import Correlation, correlations
from gaptune.results.failures import unfinished
from gaptune.results.front import Summary
from gaptune.results.headline import headline
from gaptune.results.history import history
from gaptune.results.importance import importances
from gaptune.results.plots.styles import style_of
from gaptune.results.rerun import rerun_words
from gaptune.results.selection import knee
from gaptune.results.unknown import Why
from gaptune.text.output import printable
from gaptune.tracking.links import run_links

_MOST_CURVE_NUMBERS = 40_000
"""Numbers in the curves of a page: all metrics of about 70 trials of 20 epochs, in 300 kB."""
_MOST_PCA = 8
_MOST_STEPS = 500


@dataclass(frozen=True)
class Source:
    """What the sections are made from.

    Attributes:
        record: The sweep, or a view of it.
        folder: Its folder.
        mlflow_url: Address of the MLflow UI.
        price: Price of a GPU-hour, or of a core-hour without GPUs; None if it is not known.
    """

    record: SweepRecord
    folder: Path
    mlflow_url: str
    price: float | None

    @cached_property
    def rows(self) -> list[Candidate]:
        """All candidates, in the order of the page's rows."""
        return [Candidate.of(self.record, trials) for trials in self.record.candidates().values()]

    @cached_property
    def summary(self) -> Summary:
        """The front."""
        return summarize(self.record)

    @cached_property
    def correlations(self) -> list[Correlation]:
        """The correlations that were measured, or are unknown for another reason."""
        return correlations(self.record)

    @property
    def on_front(self) -> list[int]:
        """The members of the front, each by its first trial."""
        return [member.trial.number for member in self.summary.front]


Section = Callable[[Source], dict[str, Any]]


def content(record: SweepRecord, folder: Path, *, mlflow_url: str, price: float | None) -> dict[str, Any]:
    """Everything that the page shows.

    Args:
        record: The sweep, or a view of it.
        folder: Its folder.
        mlflow_url: Address of the MLflow UI.
        price: Price of a GPU-hour, or of a core-hour without GPUs; None if it is not known.

    Returns:
        What JSON can hold; numbers that are not finite are None, and control characters in texts are escaped.
    """
    source, told = Source(record, folder, mlflow_url, price), dict[str, Any]()
    for section in SECTIONS:
        told |= section(source)
    return dict(_plain(told))


def _outcome(source: Source) -> dict[str, Any]:
    record, summary = source.record, source.summary
    return {
        "name": record.name,
        "headline": headline(record, summary, source.correlations),
        "objectives": [{"metric": one.metric, "maximize": one.maximize} for one in record.objectives],
        "constraints": [str(one) for one in record.constraints],
        "seeds": record.seeds,
        "unknown": None if summary.unknown is None else str(summary.unknown),
    }


def _rows(source: Source) -> dict[str, Any]:
    """The candidates, a row each; its number is that of the first trial."""
    rows = source.rows
    states = [State.together(trial.state for trial in row.trials) for row in rows]
    methods = [row.trial.method for row in rows]
    told = {
        "trial": [row.trial.number for row in rows],
        "trials": [[trial.number for trial in row.trials] for row in rows],
        "method": methods,
        "state": [str(state) for state in states],
        "reason": [next((trial.reason for trial in row.trials if trial.reason), None) for row in rows],
        "broken": [
            [str(one) for one in row.broken] if state is State.COMPLETE else None
            for row, state in zip(rows, states, strict=True)
        ],
        "epochs": [sum(trial.epoch for trial in row.trials) for row in rows],
        "minutes": [sum(map(_seconds, row.trials)) / 60 for row in rows],
    }
    return {"rows": told, "styles": {method: asdict(style_of(method)) for method in sorted(set(methods))}}


def _metrics(source: Source) -> dict[str, Any]:
    """Means over the seeds that have reported, their standard errors, and what each metric is."""
    metrics = list(dict.fromkeys(metric for trial in source.record.trials.values() for metric in trial.last))
    reported = [Candidate.of(source.record, [t for t in row.trials if t.reports]) for row in source.rows]
    told: dict[str, Any] = {
        "metrics": {metric: _about(metric) for metric in metrics},
        "means": {metric: [row.mean(metric) if row.trials else None for row in reported] for metric in metrics},
        "errors": {},
    }
    if source.record.seeds > 1:
        told["errors"] = {
            metric: [row.error(metric) if len(row.trials) > 1 else None for row in reported] for metric in metrics
        }
    return told


def _about(metric: str) -> dict[str, str]:
    known = find_metric(metric)
    if known is None:
        return {"unit": "", "direction": "none", "meaning": metric}
    return {"unit": known.unit, "direction": known.direction, "meaning": known.meaning}


def _params(source: Source) -> dict[str, Any]:
    """Values of the parameters that varied; apart from them, the rows in which a parameter does not apply."""
    rows, varied, space = source.rows, source.record.header.varied_params, source.record.header.space["params"]
    rules = {name: space[name] if isinstance(space.get(name), dict) else {} for name in varied}
    return {
        "params": {name: [row.trial.params.get(name) for row in rows] for name in varied},
        "off": {name: [place for place, row in enumerate(rows) if name not in row.trial.params] for name in varied},
        "choices": {name: rule["choice"] for name, rule in rules.items() if "choice" in rule},
        "log": [name for name, rule in rules.items() if "log_uniform" in rule or rule.get("log")],
    }


def _front(source: Source) -> dict[str, Any]:
    """The front, its members that are best in an objective (unless all are alike in it), and the knee."""
    record, front = source.record, source.summary.front
    best: dict[str, list[int]] = {}
    for index, objective in enumerate(record.objectives if front else ()):
        values = [member.values[index] for member in front]
        top = max(values) if objective.maximize else min(values)
        members = [member.trial.number for member, value in zip(front, values, strict=True) if value == top]
        best[objective.metric] = members if len(members) < len(front) or len(front) == 1 else []
    bend = knee(record, front)
    picks = {"best": best, "knee": bend.trial.number if isinstance(bend, Candidate) else None}
    return {"front": source.on_front, "picks": picks}


def _curves(source: Source) -> dict[str, Any]:
    """Every metric over training: of all trials, or of as many as fit in the page.

    The front comes first, then the first of each method, then the others, evenly over the sweep.
    """
    members, seen = set(source.on_front), set[str]()
    first: list[Candidate] = []
    others: list[Candidate] = []
    reported = [row for row in source.rows if any(trial.reports for trial in row.trials)]
    for row in sorted(reported, key=lambda row: row.trial.number not in members):
        (first if row.trial.number in members or row.trial.method not in seen else others).append(row)
        seen.add(row.trial.method)
    left_over = max(1, _MOST_CURVE_NUMBERS - sum(map(_numbers, first)))
    every = max(1, math.ceil(sum(map(_numbers, others)) / left_over))
    left, curves = _MOST_CURVE_NUMBERS, dict[int, Any]()
    for row in first + others[::every]:
        if left > 0:
            left -= _numbers(row)
            curves.update({trial.number: _curve(trial) for trial in row.trials if trial.reports})
    return {"curves": curves}


def _numbers(row: Candidate) -> int:
    """How many numbers the curves of a row have."""
    return sum(len(report.metrics) for trial in row.trials for report in trial.reports)


def _curve(trial: TrialRecord) -> dict[str, Any]:
    metrics = dict.fromkeys(metric for report in trial.reports for metric in report.metrics)
    return {
        "epoch": [report.epoch for report in trial.reports],
        "metrics": {metric: [report.metrics.get(metric) for report in trial.reports] for metric in metrics},
    }


def _importance(source: Source) -> dict[str, Any]:
    found = importances(source.record)
    return {
        "importance": [asdict(one) for one in found],
        "no_importance": {metric: str(reason) for metric, reason in found.unknown.items()},
    }


def _correlations(source: Source) -> dict[str, Any]:
    known = [one for one in source.correlations if one.unknown is None or one.unknown.why is not Why.NOT_MEASURED]
    return {"correlations": [asdict(one) for one in known]}


def _history(source: Source) -> dict[str, Any]:
    """The hypervolume over the search, thinned out, with its end kept."""
    steps = history(source.record)
    every = math.ceil(len(steps) / _MOST_STEPS) if steps else 1
    return {"history": [asdict(step) for step in steps[::-1][::every][::-1]]}


def _unfinished(source: Source) -> dict[str, Any]:
    return {"unfinished": [{**asdict(one), "state": str(one.state)} for one in unfinished(source.record)]}


def _embeddings(source: Source) -> dict[str, Any]:
    members = source.summary.front[:_MOST_PCA]
    samples = {member.trial.number: projection(source.folder, member.trial) for member in members}
    return {"pca": {number: drawn for number, drawn in samples.items() if drawn is not None}}


def _mlflow(source: Source) -> dict[str, Any]:
    """Links to the MLflow UI. A server on the reader's own machine answers only while it runs."""
    url = urlsplit(source.mlflow_url)
    host, port = url.hostname or "", url.port or 5000
    local = host in ("localhost", "::1") or host.startswith("127.")
    needs = "gaptune ui" if port == 5000 else f"gaptune ui --port {port}"
    links = run_links(source.folder, source.mlflow_url)
    return {"mlflow": {"links": links, "server": host, "needs": needs if local else None}}


def _commands(source: Source) -> dict[str, Any]:
    """Commands for a shell; of those that train a trial again, all words once, and the places of each trial's own."""
    record = source.record
    commands = {number: rerun_words(trial) for number, trial in record.trials.items()}
    words = {word: place for place, word in enumerate(dict.fromkeys(w for words in commands.values() for w in words))}
    own = {number: [words[word] for word in command] for number, command in commands.items()}
    return {
        "train": {"words": list(words), "own": own},
        "show": shlex.join(["gaptune", "show", record.name]),
        "confirm": shlex.join(["gaptune", "confirm", record.name]),
    }


def _seconds(trial: TrialRecord) -> float:
    """Seconds that a trial trained and evaluated; not its waiting, nor what a killed worker lost."""
    return sum(r.metrics.get("time/train_s", 0.0) + r.metrics.get("time/eval_s", 0.0) for r in trial.reports)


def _cost(source: Source) -> dict[str, Any]:
    record, price = source.record, source.price
    nodes: dict[str, dict[str, float]] = {}
    for trial in record.trials.values():
        node = nodes.setdefault(trial.node or "not started", {"trials": 0, "hours": 0.0})
        node["trials"] += 1
        node["hours"] += _seconds(trial) / 3600
    hours = sum(node["hours"] for node in nodes.values())
    gpus, cpus = record.gpus, record.header.cpus
    unit, spent = ("GPU-hours", gpus * hours) if gpus else ("core-hours", cpus * hours)
    times = [trial.started_at for trial in record.trials.values() if trial.started_at is not None]
    cost = {
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
    return {"cost": cost}


def _reproduction(source: Source) -> dict[str, Any]:
    header = source.record.header
    again = {
        "command": header.command,
        "versions": header.versions,
        "data": f"{header.data.name}, SHA-256 {header.data.hash}",
        "space": yaml.safe_dump(header.space, sort_keys=False, allow_unicode=True),
        "sweep": yaml.safe_dump(header.config, sort_keys=False, allow_unicode=True),
    }
    return {"again": again}


SECTIONS: tuple[Section, ...] = (
    _outcome,
    _rows,
    _metrics,
    _params,
    _front,
    _curves,
    _importance,
    _correlations,
    _history,
    _unfinished,
    _embeddings,
    _mlflow,
    _commands,
    _cost,
    _reproduction,
)
"""What the page shows. The script of a section is ``script/NAME.js``, its place is in ``page.html``."""


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
