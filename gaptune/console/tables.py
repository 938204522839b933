"""Tables for the terminal: one builder for all of them, and the tables of a sweep."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from gaptune.console import styles
from gaptune.ledger import State, SweepRecord, TrialRecord
from gaptune.ledger.candidate import Candidate
from gaptune.results.front import Summary, candidates, summarize
from gaptune.results.headline import constrained
from gaptune.results.rung_agreement import rank_rungs
from gaptune.results.stability import front_fractions
from gaptune.results.status import running_on
from gaptune.results.unknown import Unknown
from gaptune.text.words import counted

_NODES = 8
"""How many nodes a line names at most."""
_ALWAYS = ("geometry/gap", "temperature/tau")


def make_table(
    headings: Sequence[str],
    rows: Iterable[Sequence[Any]],
    *,
    title: str | None = None,
    right: Collection[str] = (),
    compact: bool = False,
) -> Table:
    """A table in the style of gaptune.

    Args:
        headings: Headings of the columns.
        rows: Cells: texts, ready ``Text``, or values, which ``short`` formats. Columns with a number are right-aligned.
        title: Title above the table.
        right: Headings of further right-aligned columns, of numbers in texts.
        compact: Whether to leave out the lines around the headings.
    """
    rows = [list(row) for row in rows]
    numbers = [any(isinstance(row[index], int | float | tuple) for row in rows) for index in range(len(headings))]
    table = Table(
        title=title,
        title_justify="left",
        box=None if compact else SIMPLE_HEAD,
        header_style=styles.QUIET if compact else "table.header",
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    for heading, number in zip(headings, numbers, strict=True):
        aligned = number or heading in right
        table.add_column(heading, justify="right" if aligned else "left", overflow="fold", no_wrap=number)
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else short(cell) for cell in row))
    return table


def records_table(rows: Sequence[Mapping[str, Any]], title: str | None = None) -> Table:
    """A table of records, with a column for each key of the longest one.

    Args:
        rows: At least one record.
        title: Title above the table.
    """
    names = max((list(row) for row in rows), key=len)
    return make_table(names, [[row.get(name) for name in names] for row in rows], title=title)


def short(value: Any) -> str:
    """A value as a table cell."""
    if value is None or value != value:
        return "·"
    if isinstance(value, tuple):
        mean, error = value
        return f"{mean:.3f} ± {error:.3f}" if error >= 0.0005 else f"{mean:.5f} ± {error:.1g}"
    if isinstance(value, float):
        return f"{value:.4g}" if value and abs(value) < 0.01 else f"{value:.3f}"
    if isinstance(value, list):  # the numbers of many trials
        return " ".join(map(str, value[:8])) + (f" … ({len(value)})" if len(value) > 8 else "")
    return str(value)


def spark(values: list[float], bars: str = "▁▂▃▄▅▆▇█", width: int = 40) -> str:
    """A curve as a line of bars from its lowest to its highest value; a long curve is thinned out, but keeps its end.

    Args:
        values: The curve.
        bars: Characters from low to high.
        width: Largest number of bars.
    """
    every = math.ceil(len(values) / width)
    shown = values[::-1][::every][::-1]
    known = [value for value in shown if math.isfinite(value)]
    if not known:
        return ""
    low, high = min(known), max(known)
    scale = (len(bars) - 1) / (high - low) if high > low else 0.0
    return "".join(bars[round((value - low) * scale)] if math.isfinite(value) else " " for value in shown)


def shown_metrics(record: SweepRecord) -> list[str]:
    """The metrics that a table of trials shows: the objectives, then Δ and τ."""
    objectives = record.objectives.metrics
    return objectives + [metric for metric in _ALWAYS if metric not in objectives]


def candidate_row(record: SweepRecord, candidate: Candidate) -> dict[str, Any]:
    """A candidate as a flat mapping: number, method, metrics, and the parameters that varied in the sweep.

    With several seeds a metric is a pair: its mean and its standard error.
    """
    trial, errors = candidate.trial, dict(zip(record.objectives.metrics, candidate.errors, strict=True))
    row: dict[str, Any] = {"trial": trial.number, "method": trial.method}
    for metric in shown_metrics(record):
        value = candidate.mean(metric)
        row[metric] = (value, errors[metric]) if len(candidate.trials) > 1 and metric in errors else value
    row.update({parameter: trial.params.get(parameter) for parameter in record.header.varied_params})
    return row


def running_table(record: SweepRecord, epochs: Mapping[int, float] = MappingProxyType({})) -> RenderableType:
    """The running trials with their newest metrics, and the failed trials with their reasons.

    Args:
        record: The sweep.
        epochs: Epochs of running trials since their last report, by number, with the part of the one that has begun.
    """
    metrics = shown_metrics(record)
    several = _on_several_nodes(record)
    rows = [
        [
            trial.number,
            trial.state,
            trial.method,
            *([trial.node or ""] if several else []),
            f"{_position(trial, epochs)}/{trial.config.get('training.epochs', '?')}",
            *(trial.last.get(metric) for metric in metrics),
            trial.reason or "",
        ]
        for trial in record.trials.values()
        if trial.state in (State.RUNNING, State.WAITING, State.FAIL)
    ]
    if not rows:
        return Text("no running or failed trials")
    names = [metric.split("/")[-1] for metric in metrics]
    headings = ["trial", "state", "method", *(["node"] if several else []), "epoch", *names, "reason"]
    return make_table(headings, rows, right=("epoch", *names), compact=True)


def nodes_line(record: SweepRecord) -> str | None:
    """How many trials run on each node, and how many wait; None for a sweep on one node."""
    if not _on_several_nodes(record):
        return None
    nodes = running_on(record)
    most = sorted(nodes.items(), key=lambda node: -len(node[1]))
    named = [f"{name} {len(trials)}" for name, trials in most[:_NODES]]
    more = [f"{counted(len(most) - _NODES, 'further node')}"] if len(most) > _NODES else []
    waiting = record.count(State.WAITING)
    waits = f"; {counted(waiting, 'trial')} waiting" if waiting else ""
    return f"trials on {counted(len(nodes), 'node')}: {', '.join([*named, *more]) or 'none'}{waits}"


def _on_several_nodes(record: SweepRecord) -> bool:
    return len({trial.node for trial in record.trials.values() if trial.node}) > 1


def _position(trial: TrialRecord, epochs: Mapping[int, float]) -> str:
    now = epochs.get(trial.number, 0.0)
    return f"{now:.1f}" if trial.state is State.RUNNING and now > trial.epoch else str(trial.epoch)


def end_report(record: SweepRecord) -> RenderableType:
    """The results of a sweep: its front, and the effect of early stopping."""
    parts = [front_table(record, summarize(record))]
    if record.header.early_stopping["method"] != "none":
        parts.append(stopping_text(record))
    return Group(*parts)


def front_table(record: SweepRecord, summary: Summary) -> RenderableType:
    """The front as a table, with the hypervolume and the number of trials below it."""
    if not summary.front:
        nothing = f"{record.name} has no front: {summary.unknown}"
        return Group(Text(nothing), _footer(record, summary))
    rows = [candidate_row(record, candidate) for candidate in summary.front]
    return Group(_candidates_table(record, f"Pareto front of {record.name}", rows), _footer(record, summary))


def confirmed_table(record: SweepRecord) -> RenderableType:
    """The candidates of a confirmation, each with the fraction of bootstrap draws in which it is on the front."""
    found = candidates(record)
    if not found:
        return front_table(record, summarize(record))
    fractions = front_fractions(record, found)
    if isinstance(fractions, Unknown):
        unknown = Text(f"fraction of bootstrap draws on the front unknown: {fractions}")
        return Group(front_table(record, summarize(record)), unknown)
    best = sorted(range(len(found)), key=lambda index: -fractions[index])
    rows = [{"on front": f"{fractions[index]:.0%}", **candidate_row(record, found[index])} for index in best]
    seeds = len(found[0].trials)
    title = f"{record.name}: mean ± standard error of {seeds} new seeds; fraction of bootstrap draws on the front"
    return Group(_candidates_table(record, title, rows), _footer(record, summarize(record)))


def stopping_text(record: SweepRecord) -> RenderableType:
    """The epochs that early stopping saved, and how well each rung ranked the completed candidates."""
    trials = [trial for trial in record.trials.values() if trial.config]
    spent, full = sum(trial.epoch for trial in trials), sum(trial.epochs for trial in trials)
    lines = [f"early stopping: {spent:,} of {counted(full, 'epoch')} trained"]
    for rung in rank_rungs(record):
        where = f"rung {rung.fraction:.0%}{f' ({rung.cohort})' if rung.cohort else ''}"
        if rung.kendall is None:
            lines.append(f"{where}: {rung.unknown}")
            continue
        tau = short(rung.kendall)
        number = counted(rung.count, "completed candidate")
        lines.append(f"{where}: Kendall's τ = {tau} with the final ranks of {number}")
        if rung.blind:
            lines.append(
                f"warning: ranks at {where} do not predict final ranks (Kendall's τ = {tau}). Raise "
                "early_stopping.min_fraction, or set early_stopping.method: none"
            )
    return Text("\n".join(lines))


@dataclass(frozen=True)
class _Fitting:
    """The first of two tables if the terminal is wide enough for it, else the second."""

    wide: Table
    narrow: Table

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        needed = Measurement.get(console, options.update_width(10_000), self.wide).maximum
        yield self.wide if needed <= options.max_width else self.narrow


def _candidates_table(record: SweepRecord, title: str, rows: list[dict[str, Any]]) -> _Fitting:
    """Candidates with a column per parameter, or with one column for all parameters if that is too wide."""
    arrows = {o.metric: " ↑" if o.maximize else " ↓" for o in record.objectives}
    used = [name for name in rows[0] if any(row[name] is not None for row in rows)]
    params = [name for name in used if name in record.header.varied_params]
    others = [name for name in used if name not in params]

    def columns(names: list[str], cells: list[dict[str, Any]]) -> Table:
        leaves = [_leaf(name) for name in names]
        headings = [
            (leaf if leaves.count(leaf) == 1 else name.replace(".", ". ")) + arrows.get(name, "")
            for name, leaf in zip(names, leaves, strict=True)
        ]
        return make_table(headings, [[row[name] for name in names] for row in cells], title=title)

    joined = [{**row, "params": _joined(row, params)} for row in rows]
    return _Fitting(columns(used, rows), columns([*others, "params"], joined))


def _joined(row: dict[str, Any], params: list[str]) -> str:
    """The parameters of a row as one text."""
    leaves = [_leaf(parameter) for parameter in params]
    names = [leaf if leaves.count(leaf) == 1 else parameter for leaf, parameter in zip(leaves, params, strict=True)]
    named = zip(names, params, strict=True)
    return ", ".join(f"{name} {short(row[parameter])}" for name, parameter in named if row[parameter] is not None)


def _leaf(name: str) -> str:
    return name.rsplit("/", 1)[-1].removeprefix("temperature.")


def _footer(record: SweepRecord, summary: Summary) -> Text:
    lines = []
    if summary.hypervolume is not None:
        points = [
            f"{kind} point {', '.join(f'{value:g}' for value in values)}"
            for kind, values in (
                ("reference", [one.reference for one in record.objectives]),
                ("ideal", [one.ideal for one in record.objectives]),
            )
        ]
        lines.append(f"hypervolume {summary.hypervolume:.4f} ({'; '.join(points)})")
    elif summary.front:
        lines.append(f"no hypervolume: {summary.unknown}")
    if record.constraints and summary.front:
        lines.append(constrained(record, summary))
    counts = {state: f"{count} {state}" for state, count in summary.counts.items()}
    if summary.counts.get(State.COMPLETE, summary.complete) != summary.complete:  # seeds, or the same parameters again
        counts[State.COMPLETE] += f" ({counted(summary.complete, 'candidate')})"
    lines.append("trials: " + (", ".join(counts.values()) or "none yet"))
    return Text("\n".join(lines))
