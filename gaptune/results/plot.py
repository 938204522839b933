"""The front as a picture."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gaptune.ledger import State, SweepRecord
from gaptune.results.front import Summary
from gaptune.scores import SCORES

# Okabe and Ito's colors, told apart by color-blind readers; shapes tell methods apart in black and white too.
_COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#000000", "#999999")
_MARKERS = "osD^vP*X"


def plot_front(record: SweepRecord, summary: Summary, path: Path) -> None:
    """Draws completed trials and the front, one panel for each pair of objectives.

    Args:
        record: The sweep.
        summary: Its front.
        path: The PNG file to write.
    """
    pairs = list(combinations(range(len(record.objectives)), 2))
    figure = Figure(figsize=(6.4 * len(pairs), 5.0), layout="constrained")
    for axes, (first, second) in zip(figure.subplots(1, len(pairs), squeeze=False)[0], pairs, strict=True):
        _panel(axes, record, summary, first, second)
    corners = f"hypervolume {summary.hypervolume:.4f}"
    figure.suptitle(
        f"{record.name}: {len(summary.front)} of {record.count(State.COMPLETE)} trials on the front, {corners}"
    )
    figure.savefig(path, dpi=150)


def _panel(axes: Axes, record: SweepRecord, summary: Summary, first: int, second: int) -> None:
    complete = [trial for trial in record.trials.values() if trial.state is State.COMPLETE]
    values = {trial.number: record.values(trial) for trial in complete}
    members = {trial.number for trial in summary.front}
    methods = sorted({trial.method for trial in complete})
    for index, method in enumerate(methods):
        style = {"color": _COLORS[index % len(_COLORS)], "marker": _MARKERS[index % len(_MARKERS)]}
        numbers = [trial.number for trial in complete if trial.method == method]
        for on_front in (False, True):
            chosen = [number for number in numbers if (number in members) is on_front]
            axes.scatter(
                [values[number][first] for number in chosen],
                [values[number][second] for number in chosen],
                s=70 if on_front else 28,
                alpha=1.0 if on_front else 0.45,
                edgecolors="black" if on_front else "none",
                linewidths=1.2 if on_front else 0.0,
                label=method if on_front == any(number in members for number in numbers) else None,
                zorder=3 if on_front else 2,
                color=style["color"],
                marker=style["marker"],
            )
    _staircase(axes, record, summary, first, second)
    for trial in summary.front:
        x, y = values[trial.number][first], values[trial.number][second]
        axes.annotate(str(trial.number), (x, y), xytext=(6, 5), textcoords="offset points", fontsize=8)
    axes.set_xlabel(_label(record, first))
    axes.set_ylabel(_label(record, second))
    axes.grid(alpha=0.25)
    if methods:
        axes.legend(title="method", fontsize=8, title_fontsize=8)


def _staircase(axes: Axes, record: SweepRecord, summary: Summary, first: int, second: int) -> None:
    """The edge of what is dominated; drawn for two objectives only, where it is a line."""
    if len(record.objectives) != 2 or not summary.front:
        return
    points = sorted(tuple(record.values(trial)) for trial in summary.front)
    axes.step(
        [point[first] for point in points],
        [point[second] for point in points],
        where="pre" if record.objectives[first]["maximize"] else "post",
        color="0.4",
        linewidth=1.0,
        linestyle="--",
        zorder=1,
    )


def _label(record: SweepRecord, index: int) -> str:
    objective = record.objectives[index]
    better = "higher is better" if objective["maximize"] else "lower is better"
    return f"{objective['metric']} ({SCORES[objective['metric']].unit}; {better})"
