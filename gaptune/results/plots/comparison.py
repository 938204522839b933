"""The fronts of several sweeps in one plot."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gaptune.ledger import SweepRecord
from gaptune.results.attainment import attainment
from gaptune.results.compare import Values
from gaptune.results.front import summarize
from gaptune.results.plots.front import axis_label
from gaptune.results.plots.styles import COLORS, MARKERS
from gaptune.text.markup import for_plot

_LINES = ("-", "--", "-.", ":")


def plot_fronts(records: Sequence[SweepRecord], path: Path) -> None:
    """Draws the fronts of sweeps over each other, for their first two objectives.

    Args:
        records: Sweeps with the same objectives.
        path: The PNG file to write.
    """
    first = records[0].objectives[0]
    figure = Figure(figsize=(7.0, 5.2), layout="constrained")
    axes = figure.subplots()
    names = []
    for index, record in enumerate(records):
        members = summarize(record).front
        names.append(record.name if members else f"{record.name} (no front)")
        values = np.array(sorted(member.values[:2] for member in members)).reshape(-1, 2)
        axes.plot(
            values[:, 0],
            values[:, 1],
            label=f"sweep {index}",
            linestyle=_LINES[index % len(_LINES)],
            marker=MARKERS[index % len(MARKERS)],
            color=COLORS[index % len(COLORS)],
            drawstyle="steps-pre" if first.maximize else "steps-post",
        )
    _finish(figure, axes, records[0], path, names)


def plot_attainment(records: Sequence[SweepRecord], path: Path) -> None:
    """Draws what half of some repeats attain, between what a quarter and what three quarters of them do.

    Args:
        records: What ``gaptune.results.attainment`` takes: sweeps as repetitions, or one sweep with several seeds.
        path: The PNG file to write.
    """
    some, median, most = (band.points for band in attainment(records))
    first, second = records[0].objectives
    signs = [first.sign, second.sign]
    levels = np.unique(np.concatenate([band[:, 0] for band in (some, median, most)]))
    turned = [band * signs for band in (some, median, most)]
    floor = min(band[:, 1].min() for band in turned if len(band))
    upper, lower = (_heights(band, levels * signs[0], floor) * signs[1] for band in (turned[0], turned[2]))
    figure = Figure(figsize=(7.0, 5.2), layout="constrained")
    axes = figure.subplots()
    step: Literal["pre", "post"] = "pre" if first.maximize else "post"
    axes.fill_between(levels, lower, upper, step=step, alpha=0.3, linewidth=0, label="band")
    axes.plot(*median.T, drawstyle=f"steps-{step}", marker="o", markersize=3, label="median")
    _finish(figure, axes, records[0], path, ["a quarter … three quarters", "half of the repeats"])


def _heights(corners: Values, levels: Values, floor: float) -> Values:
    """The best second objective at each level of the first, larger is better in both; the floor beyond the corners."""
    reached = np.where(corners[None, :, 0] >= levels[:, None], corners[None, :, 1], floor)
    return np.asarray(reached.max(axis=1, initial=floor))


def _finish(figure: Figure, axes: Axes, record: SweepRecord, path: Path, names: Sequence[str]) -> None:
    """Names are text to the letter: they may begin with a _, which matplotlib takes for its own."""
    axes.set_xlabel(axis_label(record, 0))
    axes.set_ylabel(axis_label(record, 1))
    axes.grid(alpha=0.25)
    for text, name in zip(axes.legend(fontsize=8).get_texts(), names, strict=True):
        text.set_text(for_plot(name))
    figure.savefig(path, dpi=150)
