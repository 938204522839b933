"""The front as a picture."""

from __future__ import annotations

import math
from itertools import combinations
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gaptune.ledger import SweepRecord
from gaptune.results.front import Candidate, Summary, candidates
from gaptune.scores import find_score

# Okabe and Ito's colors, told apart by color-blind readers; shapes tell methods apart in black and white too.
COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#000000", "#999999")
MARKERS = "osD^vP*X"


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
    volume = "" if math.isnan(summary.hypervolume) else f", hypervolume {summary.hypervolume:.4f}"
    figure.suptitle(f"{record.name}: {len(summary.front)} of {len(complete)} on the front{volume}")
    figure.savefig(path, dpi=150)


def axis_label(record: SweepRecord, index: int) -> str:
    """An objective with its unit and its better side."""
    objective = record.objectives[index]
    better = "higher is better" if objective["maximize"] else "lower is better"
    score = find_score(objective["metric"])
    return f"{objective['metric']} ({score.unit + '; ' if score else ''}{better})"


def _panel(
    axes: Axes, record: SweepRecord, complete: list[Candidate], summary: Summary, first: int, second: int
) -> None:
    on_front = {member.trial.number for member in summary.front}
    methods = sorted({candidate.trial.method for candidate in complete})
    for index, method in enumerate(methods):
        mine = [candidate for candidate in complete if candidate.trial.method == method]
        members = [candidate for candidate in mine if candidate.trial.number in on_front]
        others = [candidate for candidate in mine if candidate.trial.number not in on_front]
        color, marker = COLORS[index % len(COLORS)], MARKERS[index % len(MARKERS)]
        axes.scatter(*_xy(others, first, second), s=28, alpha=0.45, color=color, marker=marker, linewidths=0, zorder=2)
        axes.scatter(*_xy(members, first, second), s=70, color=color, marker=marker, edgecolors="black", zorder=3)
        axes.scatter([], [], s=40, color=color, marker=marker, label=method)
    for member in summary.front:
        x, y = member.values[first], member.values[second]
        axes.annotate(str(member.trial.number), (x, y), xytext=(6, 5), textcoords="offset points", fontsize=8)
        if len(member.trials) > 1:
            axes.errorbar(x, y, xerr=member.errors[first], yerr=member.errors[second], color="0.3", capsize=2, zorder=2)
    _staircase(axes, record, summary, first, second)
    axes.set_xlabel(axis_label(record, first))
    axes.set_ylabel(axis_label(record, second))
    axes.grid(alpha=0.25)
    if methods:
        axes.legend(title="method", fontsize=8, title_fontsize=8)


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
        where="pre" if record.objectives[first]["maximize"] else "post",
        color="0.4",
        linewidth=1.0,
        linestyle="--",
        zorder=1,
    )
