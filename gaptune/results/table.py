"""A sweep's outcome for the terminal."""

from __future__ import annotations

from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from gaptune.ledger import SweepRecord, TrialRecord
from gaptune.results.front import Summary

_ALWAYS = ("geometry/gap", "temperature/tau")


def shown_metrics(record: SweepRecord) -> list[str]:
    """The metrics that a table of trials shows: the objectives, then Δ and τ."""
    objectives = [objective["metric"] for objective in record.objectives]
    return objectives + [metric for metric in _ALWAYS if metric not in objectives]


def trial_row(record: SweepRecord, trial: TrialRecord) -> dict[str, Any]:
    """One trial as a flat mapping: number, method, metrics, and the knobs that varied in the sweep."""
    row: dict[str, Any] = {"trial": trial.number, "method": trial.method}
    row.update({metric: trial.last.get(metric) for metric in shown_metrics(record)})
    row.update({knob: trial.knobs.get(knob) for knob in record.header["varied"] if knob != "method"})
    return row


def short(value: Any) -> str:
    """A value as a table cell."""
    if value is None:
        return "·"
    if isinstance(value, float):
        return f"{value:.4g}" if value and abs(value) < 0.01 else f"{value:.3f}"
    return str(value)


def front_table(record: SweepRecord, summary: Summary) -> RenderableType:
    """The front as a table, with the hypervolume and the counts below it."""
    arrows = {o["metric"]: " ↑" if o["maximize"] else " ↓" for o in record.objectives}
    title = f"Pareto front of {record.name}"
    table = Table(box=SIMPLE_HEAD, title=title, title_justify="left", pad_edge=False, padding=(0, 1, 0, 0))
    rows = [trial_row(record, trial) for trial in summary.front]
    used = [name for name in (rows[0] if rows else ()) if any(row[name] is not None for row in rows)]
    leaves = [name.replace("/", ".").rsplit(".", 1)[-1] for name in used]
    for name, leaf in zip(used, leaves, strict=True):
        number = any(isinstance(row[name], int | float) for row in rows)
        heading = leaf if leaves.count(leaf) == 1 else name.replace(".", ". ")
        table.add_column(heading + arrows.get(name, ""), justify="right" if number else "left", overflow="fold")
    for row in rows:
        table.add_row(*(short(row[name]) for name in used))
    if not rows:
        return Group(
            Text(f"No trial of {record.name} has been completed: there is no front."),
            _footer(record, summary),
        )
    return Group(table, _footer(record, summary))


def _footer(record: SweepRecord, summary: Summary) -> Text:
    corners = "; ".join(f"{o['metric']} {o['reference']:g} … {o['ideal']:g}" for o in record.objectives)
    counts = ", ".join(f"{count} {state}" for state, count in summary.counts.items())
    return Text(f"hypervolume {summary.hypervolume:.4f} of the box reference … ideal ({corners})\ntrials: {counts}")
