"""Several sweeps with the same objectives, held against each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gaptune.errors import UserError
from gaptune.ledger import SweepRecord
from gaptune.pareto.dominance import front, oriented
from gaptune.pareto.hypervolume import normalized_hypervolume
from gaptune.results.attainment import attainment
from gaptune.results.front import candidates, summarize
from gaptune.results.looks import COLORS, MARKERS
from gaptune.results.plot import axis_label
from gaptune.results.unknown import Unknown
from gaptune.text.markup import for_picture

Values = npt.NDArray[np.float64]

_LINES = ("-", "--", "-.", ":")


@dataclass(frozen=True)
class Standing:
    """A sweep among others.

    Attributes:
        name: Its name.
        data: What it was trained on.
        trials: Trials in all.
        epochs: Epochs that they were trained.
        complete: Candidates that were trained to the end.
        infeasible: Those of them that break a constraint.
        hypervolume: Share of the common box that its front dominates; None where the sweep has no front.
        front: Members of its front.
        common: Members of its front that are on the front of all sweeps together.
        unknown: Why it has no hypervolume.
    """

    name: str
    data: str
    trials: int
    epochs: int
    complete: int
    infeasible: int
    hypervolume: float | None
    front: int
    common: int
    unknown: Unknown | None = None


def compare_sweeps(records: Sequence[SweepRecord]) -> list[Standing]:
    """Holds sweeps against each other, in one box.

    The box of the hypervolume is that of the first sweep's YAML; for an objective that has none there (a view with
    other objectives) it spans what the candidates of all sweeps have reached.

    Raises:
        UserError: The sweeps differ in their objectives.
    """
    objectives = records[0].objectives
    wanted = [(objective["metric"], objective["maximize"]) for objective in objectives]
    for record in records[1:]:
        if [(o["metric"], o["maximize"]) for o in record.objectives] != wanted:
            raise UserError(
                f"{record.name!r} and {records[0].name!r} have different objectives; choose some with --objective"
            )
    maximize = [objective["maximize"] for objective in objectives]
    summaries = [summarize(record) for record in records]
    points = [oriented([member.values for member in one.front], maximize) for one in summaries]
    together = front(np.vstack(points))
    low, high = _box(records)
    standings, start = [], 0
    for record, summary, own in zip(records, summaries, points, strict=True):
        standings.append(
            Standing(
                name=record.name,
                data=record.header["data"]["name"],
                trials=len(record.trials),
                epochs=sum(trial.epoch for trial in record.trials.values()),
                complete=summary.complete,
                infeasible=summary.infeasible,
                hypervolume=normalized_hypervolume(own, low, high) if len(own) else None,
                front=len(own),
                common=int(together[start : start + len(own)].sum()),
                unknown=None if len(own) else summary.unknown,
            )
        )
        start += len(own)
    return standings


def _box(records: Sequence[SweepRecord]) -> tuple[Values, Values]:
    objectives = records[0].objectives
    maximize = [objective["maximize"] for objective in objectives]
    low, high = oriented([[o["reference"] for o in objectives], [o["ideal"] for o in objectives]], maximize)
    every = oriented([one.values for record in records for one in candidates(record)], maximize)
    if len(every) == 0:
        return low, high
    worst, best = np.nanmin(every, axis=0), np.nanmax(every, axis=0)
    best = np.where(best > worst, best, worst + 1.0)
    return np.where(np.isnan(low), worst, low), np.where(np.isnan(high), best, high)


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
            drawstyle="steps-pre" if first["maximize"] else "steps-post",
        )
    _finish(figure, axes, records[0], path, names)


def plot_attainment(records: Sequence[SweepRecord], path: Path) -> None:
    """Draws what half of some repeats attain, between what a quarter and what three quarters of them do.

    Args:
        records: What ``gaptune.results.attainment`` takes: sweeps that repeat each other, or one with several seeds.
        path: The PNG file to write.
    """
    some, median, most = (oriented(band.points, [True, True]) for band in attainment(records))
    first, second = records[0].objectives
    signs = [1.0 if objective["maximize"] else -1.0 for objective in (first, second)]
    levels = np.unique(np.concatenate([band[:, 0] for band in (some, median, most)]))
    turned = [band * signs for band in (some, median, most)]
    floor = min(band[:, 1].min() for band in turned if len(band))
    upper, lower = (_heights(band, levels * signs[0], floor) * signs[1] for band in (turned[0], turned[2]))
    figure = Figure(figsize=(7.0, 5.2), layout="constrained")
    axes = figure.subplots()
    step: Literal["pre", "post"] = "pre" if first["maximize"] else "post"
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
        text.set_text(for_picture(name))
    figure.savefig(path, dpi=150)
