"""A plot of the front."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from textwrap import wrap
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gaptune.ledger import SweepRecord
from gaptune.ledger.candidate import Candidate
from gaptune.metrics.table import find_metric
from gaptune.results.front import Summary, candidates
from gaptune.results.headline import constrained
from gaptune.results.plots.styles import style_of
from gaptune.text.markup import for_plot
from gaptune.text.output import one_line

_MANY = 12
"""Number of trials from which a plot zooms in on the better ones."""
_WIDE = 72  # characters of a line of the title


def plot_front(record: SweepRecord, summary: Summary, path: Path) -> None:
    """Draws completed trials and the front, one panel for each pair of objectives.

    Args:
        record: The sweep.
        summary: Its front.
        path: The PNG file to write.
    """
    complete = candidates(record)
    pairs = list(combinations(range(len(record.objectives)), 2))
    figure = Figure(figsize=(6.4 * len(pairs), 5.0), layout="constrained")
    for axes, (first, second) in zip(figure.subplots(1, len(pairs), squeeze=False)[0], pairs, strict=True):
        _panel(axes, record, complete, summary, first, second)
    figure.suptitle(_title(record, summary), fontsize=11)
    figure.savefig(path, dpi=150)


def _title(record: SweepRecord, summary: Summary) -> str:
    """Name, front and hypervolume; then the constraints and how many they rule out."""
    volume = "" if summary.hypervolume is None else f", hypervolume {summary.hypervolume:.4f}"
    lines = [f"{record.name}: {len(summary.front)} of {summary.complete} on the front{volume}"]
    if not summary.front:
        lines = [f"{record.name} has no front: {summary.unknown}"]
    elif record.constraints:
        lines.append(constrained(record, summary))
    return "\n".join(for_plot(part) for line in lines for part in wrap(one_line(line), _WIDE))


def axis_label(record: SweepRecord, index: int) -> str:
    """An objective with its unit and its direction."""
    objective = record.objectives[index]
    better = "higher is better" if objective.maximize else "lower is better"
    known = find_metric(objective.metric)
    return for_plot(f"{objective.metric} ({known.unit + '; ' if known else ''}{better})")


def _panel(
    axes: Axes, record: SweepRecord, complete: list[Candidate], summary: Summary, first: int, second: int
) -> None:
    on_front = {member.trial.number for member in summary.front}
    feasible = [candidate for candidate in complete if candidate.feasible]
    styles = {one.group: one for one in sorted((style_of(c.trial.method) for c in feasible), key=lambda one: one.order)}
    for group, one in styles.items():
        mine = [candidate for candidate in feasible if style_of(candidate.trial.method).group == group]
        style: dict[str, Any] = {
            "linestyle": "none",
            "marker": one.marker,
            "fillstyle": one.fill,
            "color": one.color,
            "zorder": 2,
        }
        others = [candidate for candidate in mine if candidate.trial.number not in on_front]
        members = [candidate for candidate in mine if candidate.trial.number in on_front]
        axes.plot(*_xy(others, first, second), **style, markersize=6, alpha=0.6)
        axes.plot(*_xy(members, first, second), **style, markersize=8)
        axes.plot([], [], **style, label=for_plot(group))
    ruled_out = [candidate for candidate in complete if not candidate.feasible]
    if ruled_out:
        label = f"breaks a constraint ({len(ruled_out)})"
        axes.plot(*_xy(ruled_out, first, second), linestyle="none", marker="x", color="0.55", zorder=1, label=label)
    ring: dict[str, Any] = {
        "marker": "o",
        "fillstyle": "none",
        "markersize": 15,
        "color": "black",
        "markeredgewidth": 0.8,
    }
    if summary.front:
        axes.plot(*_xy(summary.front, first, second), linestyle="none", zorder=3, label="on the front", **ring)
    for member in summary.front:
        x, y = member.values[first], member.values[second]
        axes.annotate(str(member.trial.number), (x, y), xytext=(8, 6), textcoords="offset points", fontsize=8)
        if len(member.trials) > 1:
            axes.errorbar(x, y, xerr=member.errors[first], yerr=member.errors[second], color="0.3", capsize=2, zorder=2)
    _staircase(axes, record, summary, first, second)
    axes.set_xlabel(axis_label(record, first))
    axes.set_ylabel(axis_label(record, second))
    axes.grid(alpha=0.25)
    if complete:
        axes.legend(fontsize=8)
    if len(complete) >= _MANY:
        _zoom(axes, record, complete, summary, first, second)


def _zoom(
    axes: Axes, record: SweepRecord, complete: list[Candidate], summary: Summary, first: int, second: int
) -> None:
    """Looks closer where the worst quarter in an objective would squeeze the others into a corner."""
    outside = np.zeros(len(complete), dtype=bool)
    for index, set_limits in ((first, axes.set_xlim), (second, axes.set_ylim)):
        values = np.array([candidate.values[index] for candidate in complete])
        edge = np.quantile(values, 0.25 if record.objectives[index].maximize else 0.75)
        best = values.max() if record.objectives[index].maximize else values.min()
        kept = np.array([edge, best, *(member.values[index] for member in summary.front)])
        margin = 0.08 * np.ptp(kept)
        if 0 < np.ptp(kept) < np.ptp(values) / 2:
            set_limits(kept.min() - margin, kept.max() + margin)
            outside |= (values < kept.min() - margin) | (values > kept.max() + margin)
    if outside.any():
        axes.set_title(f"{outside.sum()} of {len(complete)} trials lie outside", fontsize=9, color="0.4")


def _xy(chosen: list[Candidate], first: int, second: int) -> tuple[list[float], list[float]]:
    return [one.values[first] for one in chosen], [one.values[second] for one in chosen]


def _staircase(axes: Axes, record: SweepRecord, summary: Summary, first: int, second: int) -> None:
    """The edge of what is dominated; drawn for two objectives only, where it is a line."""
    if len(record.objectives) != 2 or not summary.front:
        return
    points = sorted(tuple(member.values) for member in summary.front)
    axes.step(
        [point[first] for point in points],
        [point[second] for point in points],
        where="pre" if record.objectives[first].maximize else "post",
        color="0.4",
        linewidth=1.0,
        linestyle="--",
        zorder=1,
    )
