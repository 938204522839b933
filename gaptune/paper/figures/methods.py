"""Figures 5 to 7 of the paper, from a sweep over its methods."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gaptune.errors import UserError
from gaptune.ledger import SweepRecord
from gaptune.ledger.candidate import Candidate
from gaptune.paper.claims import columns, named_rows
from gaptune.paper.figures.labels import name_point, spread_names
from gaptune.results.plots.styles import style_of

_GAP = "modality gap Δ (distance, 0 to 2)"
_W2 = "uniformity −W2 (higher is better)"


def methods_figure(record: SweepRecord) -> Figure:
    """Figure 5: what each method does to gap and uniformity, τ over training, gap against fraction of swaps.

    Args:
        record: A sweep of ``search_spaces/paper.yaml``.

    Raises:
        UserError: It is another sweep, or nothing of it is completed.
    """
    rows, metrics = _rows(record), columns(record)
    figure = Figure(figsize=(15.0, 4.6), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    _scatter(left, rows, metrics.gap, metrics.uniformity, scale=1.0)
    left.set(xlabel=_GAP, ylabel=_W2, title="(a) what each method does")
    for name in _main(rows):
        reports = [trial.reports for trial in rows[name].trials]
        taus = np.mean([[report.metrics["temperature/tau"] for report in one] for one in reports], axis=0)
        epochs = [report.epoch for report in reports[0]]
        middle.plot(epochs, taus, **_line(name), markevery=max(1, len(epochs) // 6))
        name_point(middle, name, (epochs[-1], taus[-1]))
    middle.set(xlabel="epoch", ylabel="temperature τ", yscale="log", title="(b) τ over training")
    middle.set_xlim(right=1.3 * middle.get_xlim()[1])  # for the names
    for kind in ("HS", "SS"):
        names = sorted((name for name in rows if name.startswith(f"{kind} ")), key=_number)
        if not names:
            continue
        right.errorbar(
            [_number(name) for name in names],
            [rows[name].mean(metrics.gap) for name in names],
            yerr=[rows[name].error(metrics.gap) for name in names],
            **_line(kind),
            capsize=2,
            label=kind,
        )
    if "Baseline" in rows:
        right.axhline(
            rows["Baseline"].mean(metrics.gap), color=style_of("Baseline").color, linewidth=1.0, label="Baseline"
        )
    right.set(xlabel="fraction p of the steps with a swap", ylabel=_GAP, title="(c) the swap")
    if right.containers:
        right.set(xscale="log")
        right.legend(fontsize=8)
    return _finished(figure)


def retrieval_figure(record: SweepRecord) -> Figure:
    """Figure 6: image and text retrieval against the gap, and against uniformity.

    Args:
        record: A sweep of ``search_spaces/paper.yaml``.

    Raises:
        UserError: It is another sweep, or nothing of it is completed.
    """
    metrics = columns(record)
    k = metrics.image_retrieval.rpartition("_r")[2]
    return _against_both(
        record,
        {
            f"image retrieval, recall@{k} (%)": metrics.image_retrieval,
            f"text retrieval, recall@{k} (%)": metrics.text_retrieval,
        },
    )


def downstream_figure(record: SweepRecord) -> Figure:
    """Figure 7: zero-shot classification and linear probe against the gap, and against uniformity.

    Args:
        record: A sweep of ``search_spaces/paper.yaml`` whose data have labels, or which evaluates on data that have.

    Raises:
        UserError: It is another sweep, nothing of it is completed, or it measured neither.
    """
    metrics = columns(record)
    panels = {"zero-shot accuracy (%)": metrics.zero_shot, "linear probe accuracy (%)": metrics.probe}
    measured = {label: metric for label, metric in panels.items() if metric is not None}
    if not measured:
        raise UserError(f"{record.name!r} measured neither zero-shot nor linear probe (see docs/guides/evaluation.md)")
    return _against_both(record, measured)


def _against_both(record: SweepRecord, panels: dict[str, str]) -> Figure:
    """A row of panels per metric: against the gap, and against uniformity."""
    rows, metrics = _rows(record), columns(record)
    figure = Figure(figsize=(11.0, 4.2 * len(panels)), layout="constrained")
    for line, (label, metric) in zip(figure.subplots(len(panels), 2, squeeze=False), panels.items(), strict=True):
        for axes, across, name in zip(line, (metrics.gap, metrics.uniformity), (_GAP, _W2), strict=True):
            _scatter(axes, rows, across, metric, scale=100.0)
            axes.set(xlabel=name, ylabel=label)
    return _finished(figure)


def _scatter(axes: Axes, rows: dict[str, Candidate], across: str, up: str, *, scale: float) -> None:
    """A mark per candidate, with standard errors over its seeds; fixed temperatures are joined in their order."""
    fixed = sorted((name for name in rows if name.startswith("FLT ")), key=_number)
    joined = np.array([(rows[name].mean(across), scale * rows[name].mean(up)) for name in fixed])
    if len(joined):
        axes.plot(joined[:, 0], joined[:, 1], color=style_of("FLT").color, linewidth=0.8, linestyle=":", zorder=1)
    for name, row in rows.items():
        x, y = row.mean(across), scale * row.mean(up)
        dx, dy = row.error(across), scale * row.error(up)
        axes.errorbar(x, y, xerr=dx, yerr=dy, **_line(name), markersize=7, capsize=2)
        name_point(axes, name, (x, y))


def _rows(record: SweepRecord) -> dict[str, Candidate]:
    rows = named_rows(record)
    if not rows:
        raise UserError(f"no trial of {record.name!r} is completed: there is nothing to draw")
    return rows


def _main(rows: dict[str, Candidate]) -> list[str]:
    """One member per family and setting of the paper's main table."""
    return [
        name for name in rows if not name.startswith(("FLT", "HS", "SS")) or name in ("FLT 0.04", "HS 0.05", "SS 0.05")
    ]


def _line(name: str) -> dict[str, Any]:
    style = style_of(name)
    return {"linestyle": style.line, "marker": style.marker, "fillstyle": style.fill, "color": style.color}


def _number(name: str) -> float:
    return float(name.rpartition(" ")[2])


def _finished(figure: Figure) -> Figure:
    for axes in figure.axes:
        axes.grid(alpha=0.25)
    spread_names(figure)
    return figure
