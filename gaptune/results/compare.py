"""Several sweeps with the same objectives, held against each other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from gaptune.errors import UserError
from gaptune.ledger import SweepRecord
from gaptune.pareto import front, normalized_hypervolume, oriented
from gaptune.results.front import summarize

_LINES = ("-", "--", "-.", ":")
_MARKERS = "osD^vP*X"


def compare_sweeps(records: Sequence[SweepRecord]) -> list[dict[str, Any]]:
    """A row per sweep: its candidates, hypervolume, and how many of its front are on the front of all together.

    The box of the hypervolume is that of the first sweep's YAML, so that the figures can be compared.

    Raises:
        UserError: The sweeps differ in their objectives.
    """
    objectives = records[0].objectives
    wanted = [(objective["metric"], objective["maximize"]) for objective in objectives]
    for record in records[1:]:
        if [(o["metric"], o["maximize"]) for o in record.objectives] != wanted:
            raise UserError(
                f"{record.name!r} and {records[0].name!r} have different objectives; look at each with "
                "gaptune front --objective"
            )
    maximize = [objective["maximize"] for objective in objectives]
    corner = oriented([[o["reference"] for o in objectives], [o["ideal"] for o in objectives]], maximize)
    fronts = [summarize(record).front for record in records]
    points = [oriented([member.values for member in members], maximize) for members in fronts]
    together = front(np.vstack(points))
    rows, start = [], 0
    for record, own in zip(records, points, strict=True):
        rows.append(
            {
                "name": record.name,
                "data": record.header["data"]["name"],
                "trials": len(record.trials),
                "epochs": sum(trial.epoch for trial in record.trials.values()),
                "hypervolume": normalized_hypervolume(own, corner[0], corner[1]),
                "front": len(own),
                "on the common front": int(together[start : start + len(own)].sum()),
            }
        )
        start += len(own)
    return rows


def plot_fronts(records: Sequence[SweepRecord], path: Path) -> None:
    """Draws the fronts of sweeps over each other, for their first two objectives.

    Args:
        records: Sweeps with the same objectives.
        path: The PNG file to write.
    """
    first, second = records[0].objectives[:2]
    figure = Figure(figsize=(7.0, 5.2), layout="constrained")
    axes = figure.subplots()
    for index, record in enumerate(records):
        values = np.array(sorted(member.values[:2] for member in summarize(record).front)).reshape(-1, 2)
        axes.plot(
            values[:, 0],
            values[:, 1],
            label=record.name,
            linestyle=_LINES[index % len(_LINES)],
            marker=_MARKERS[index % len(_MARKERS)],
            drawstyle="steps-pre" if first["maximize"] else "steps-post",
        )
    for objective, name in ((first, axes.set_xlabel), (second, axes.set_ylabel)):
        name(f"{objective['metric']} ({'higher' if objective['maximize'] else 'lower'} is better)")
    axes.grid(alpha=0.25)
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=150)
