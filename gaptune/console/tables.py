"""A sweep's outcome for the terminal."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions, Group, JustifyMethod, RenderableType, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from gaptune.console import make_console
from gaptune.ledger import State, SweepRecord
from gaptune.ledger.candidate import Candidate
from gaptune.results.front import Summary, candidates, summarize
from gaptune.results.headline import constrained
from gaptune.results.rung_agreement import rank_rungs
from gaptune.results.stability import front_fractions
from gaptune.results.unknown import Unknown, counted

_ALWAYS = ("geometry/gap", "temperature/tau")


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


def short(value: Any) -> str:
    """A value as a table cell."""
    if value is None or value != value:
        return "·"
    if isinstance(value, tuple):
        mean, error = value
        return f"{mean:.3f} ± {error:.3f}" if error >= 0.0005 else f"{mean:.5f} ± {error:.1g}"
    if isinstance(value, float):
        return f"{value:.4g}" if value and abs(value) < 0.01 else f"{value:.3f}"
    return str(value)


def running_table(record: SweepRecord) -> RenderableType:
    """The trials under way with their newest scores; what failed, with the reason."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("trial", "state", "method", "epoch", *shown_metrics(record), "reason"):
        table.add_column(name.split("/")[-1], justify="left" if name in ("state", "method", "reason") else "right")
    for trial in record.trials.values():
        if trial.state in (State.RUNNING, State.WAITING, State.FAIL):
            scores = [short(trial.last.get(metric)) for metric in shown_metrics(record)]
            epoch = f"{trial.epoch}/{trial.config.get('training.epochs', '?')}"
            table.add_row(str(trial.number), trial.state, trial.method, epoch, *scores, trial.reason or "")
    return table if table.row_count else Text("no trial is under way and none has failed")


def end_report(record: SweepRecord) -> RenderableType:
    """What a sweep has come to: its front, and how early stopping did."""
    parts = [front_table(record, summarize(record))]
    if record.header.early_stopping["method"] != "none":
        parts.append(stopping_text(record))
    return Group(*parts)


def front_table(record: SweepRecord, summary: Summary) -> RenderableType:
    """The front as a table, with the hypervolume and the counts below it."""
    if not summary.front:
        nothing = f"{record.name} has no front: {summary.unknown}"
        return Group(Text(nothing), _footer(record, summary))
    rows = [candidate_row(record, candidate) for candidate in summary.front]
    return Group(_table(record, f"Pareto front of {record.name}", rows), _footer(record, summary))


def confirmed_table(record: SweepRecord) -> RenderableType:
    """The candidates of a confirmation, each with the bootstrap share in which it stays on the front."""
    found = candidates(record)
    if not found:
        return front_table(record, summarize(record))
    fractions = front_fractions(record, found)
    if isinstance(fractions, Unknown):
        return Group(front_table(record, summarize(record)), Text(f"share on the front not known: {fractions}"))
    best = sorted(range(len(found)), key=lambda index: -fractions[index])
    rows = [{"on front": f"{fractions[index]:.0%}", **candidate_row(record, found[index])} for index in best]
    seeds = len(found[0].trials)
    title = f"{record.name}: mean ± standard error of {seeds} fresh seeds; fraction of bootstrap draws on the front"
    return Group(_table(record, title, rows), _footer(record, summarize(record)))


def stopping_text(record: SweepRecord) -> RenderableType:
    """What early stopping saved, and how well each rung ranked those that were trained to the end."""
    trials = [trial for trial in record.trials.values() if trial.config]
    spent, full = sum(trial.epoch for trial in trials), sum(trial.epochs for trial in trials)
    lines = [f"early stopping: {spent} of {full} epochs trained"]
    for rung in rank_rungs(record):
        where = f"rung {rung.fraction:.0%}{f' ({rung.cohort})' if rung.cohort else ''}"
        if rung.kendall is None:
            lines.append(f"{where}: {rung.unknown}")
            continue
        lines.append(f"{where}: Kendall's τ {short(rung.kendall)} with the end, of {rung.count} trained to the end")
        if rung.blind:
            lines.append(
                f"warning: {where} was blind: its order says next to nothing of the order at the end. Raise "
                "early_stopping.min_fraction, or set method: none"
            )
    return Text("\n".join(lines))


@dataclass(frozen=True)
class _Fitting:
    """The first of two tables where the terminal is wide enough for it, else the second."""

    wide: Table
    narrow: Table

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        needed = Measurement.get(console, options.update_width(10_000), self.wide).maximum
        yield self.wide if needed <= options.max_width else self.narrow


def _table(record: SweepRecord, title: str, rows: list[dict[str, Any]]) -> _Fitting:
    """Candidates, the parameters each in a column of its own, or all in one where that is too wide."""
    arrows = {o.metric: " ↑" if o.maximize else " ↓" for o in record.objectives}
    used = [name for name in rows[0] if any(row[name] is not None for row in rows)]
    params = [name for name in used if name in record.header.varied_params]
    together = [{**row, "params": _together(row, params)} for row in rows]
    others = [name for name in used if name not in params]
    return _Fitting(_columns(title, used, rows, arrows), _columns(title, [*others, "params"], together, arrows))


def _columns(title: str, used: list[str], rows: list[dict[str, Any]], arrows: dict[str, str]) -> Table:
    table = Table(box=SIMPLE_HEAD, title=title, title_justify="left", pad_edge=False, padding=(0, 1, 0, 0))
    leaves = [_leaf(name) for name in used]
    for name, leaf in zip(used, leaves, strict=True):
        number = any(isinstance(row[name], int | float | tuple) for row in rows)
        heading = leaf if leaves.count(leaf) == 1 else name.replace(".", ". ")
        justify: JustifyMethod = "right" if number else "left"
        table.add_column(heading + arrows.get(name, ""), justify=justify, overflow="fold", no_wrap=number)
    for row in rows:
        table.add_row(*(short(row[name]) for name in used))
    return table


def _together(row: dict[str, Any], params: list[str]) -> str:
    leaves = [_leaf(parameter) for parameter in params]
    names = [leaf if leaves.count(leaf) == 1 else parameter for leaf, parameter in zip(leaves, params, strict=True)]
    named = zip(names, params, strict=True)
    return ", ".join(f"{name} {short(row[parameter])}" for name, parameter in named if row[parameter] is not None)


def _leaf(name: str) -> str:
    return name.rsplit("/", 1)[-1].removeprefix("temperature.")


def _footer(record: SweepRecord, summary: Summary) -> Text:
    lines = []
    if summary.hypervolume is not None:
        corners = "; ".join(f"{o.metric} {o.reference:g} … {o.ideal:g}" for o in record.objectives)
        lines.append(f"hypervolume {summary.hypervolume:.4f} of the box reference … ideal ({corners})")
    elif summary.front:
        lines.append(f"no hypervolume: {summary.unknown}")
    if record.constraints and summary.front:
        lines.append(constrained(record, summary))
    counts = {state: f"{count} {state}" for state, count in summary.counts.items()}
    if summary.counts.get(State.COMPLETE, summary.complete) != summary.complete:  # seeds, or the same parameters again
        counts[State.COMPLETE] += f" ({counted(summary.complete, 'candidate', 'candidates')})"
    lines.append("trials: " + (", ".join(counts.values()) or "none yet"))
    return Text("\n".join(lines))


def spark(values: list[float], bars: str = "▁▂▃▄▅▆▇█", width: int = 40) -> str:
    """A curve as a line of bars from its lowest to its highest value; a long one is thinned out, its end kept."""
    every = math.ceil(len(values) / width)
    shown = values[::-1][::every][::-1]
    known = [value for value in shown if math.isfinite(value)]
    if not known:
        return ""
    low, high = min(known), max(known)
    scale = (len(bars) - 1) / (high - low) if high > low else 0.0
    return "".join(bars[round((value - low) * scale)] if math.isfinite(value) else " " for value in shown)


def print_records(rows: list[dict[str, Any]]) -> None:
    """Prints records as a table, a column for each name of the longest one; nothing where there are none."""
    if not rows:
        return
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    names = max(rows, key=len)
    for name in names:
        number = any(isinstance(row.get(name), int | float) for row in rows)
        table.add_column(name, overflow="fold", justify="right" if number else "left")
    for row in rows:
        table.add_row(*(_record_cell(row.get(name)) for name in names))
    make_console().print(table)


def _record_cell(value: Any) -> str:
    if value is None or value != value:
        return "·"
    if isinstance(value, list):  # the numbers of many trials
        return " ".join(map(str, value[:8])) + (f" … ({len(value)})" if len(value) > 8 else "")
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def print_table(headings: list[str], rows: list[list[str]]) -> None:
    """Prints rows of texts under their headings."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for heading in headings:
        table.add_column(heading)
    for row in rows:
        table.add_row(*row)
    make_console().print(table)
