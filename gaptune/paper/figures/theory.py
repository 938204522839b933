"""Figures 1 to 4 of the paper, from the flows and from a real CLIP."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gaptune.paper.theory.features import FreeFlow
from gaptune.results.pca import principal_components

Values = npt.NDArray[np.float64]
_RED, _BLUE = "#D55E00", "#0072B2"  # distinct for color-blind readers; circle and cross are distinct in print
_PAIRS_DRAWN = 150
_LINES = ("-", "--", "-.", ":", (0, (3, 1, 1, 1)))


def pca_figure(panels: dict[str, tuple[Values, Values]]) -> Figure:
    """Figure 1: images and texts in their first two principal components, with a line for each pair.

    Args:
        panels: Image and text features, shapes (n, d), by the title of their panel.
    """
    figure = Figure(figsize=(5.4 * len(panels), 4.8), layout="constrained")
    for axes, (title, (x, y)) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        components = principal_components(np.concatenate([x, y]))
        _pairs(axes, components.project(x)[:_PAIRS_DRAWN], components.project(y)[:_PAIRS_DRAWN])
        gap = float(np.linalg.norm(x.mean(axis=0) - y.mean(axis=0)))
        axes.set(
            title=f"{title}: Δ = {gap:.2f}",
            xlabel=f"1st principal component ({components.explained[0]:.0%} of the variance)",
            ylabel=f"2nd principal component ({components.explained[1]:.0%})",
        )
        axes.set_aspect("equal", adjustable="datalim")
    figure.axes[0].legend(fontsize=8)
    return figure


def flow_figure(runs: dict[str, FreeFlow]) -> Figure:
    """Figure 2: Δ and τ of free features over time, and the features of the first run at three times.

    Args:
        runs: Runs from one start, by the name of their parameterization.
    """
    figure = Figure(figsize=(12.6, 8.0), layout="constrained")
    upper, lower = np.asarray(figure.subfigures(2, 1)).tolist()
    gap_axes, tau_axes, wrong_axes = upper.subplots(1, 3)
    for (name, run), line in zip(runs.items(), _LINES, strict=False):
        for axes, values in ((gap_axes, run.gap), (tau_axes, run.tau), (wrong_axes, 100 * run.mismatched)):
            axes.plot(run.t, values, linestyle=line, label=name, color="black")
    gap_axes.set(ylabel="modality gap Δ (distance, 0 to 2)", title="(a) gap")
    tau_axes.set(ylabel="temperature τ", yscale="log", title="(b) temperature")
    wrong_axes.set(ylabel="mismatched features (%)", title="(c) mismatched pairs")
    for axes in (gap_axes, tau_axes, wrong_axes):
        axes.set(xlabel="time t of the flow", xscale="log")
        axes.grid(alpha=0.25)
    gap_axes.legend(fontsize=8)
    name, run = next(iter(runs.items()))
    plane = principal_components(np.concatenate([run.x[-1], run.y[-1]])).directions.T
    half = int((run.mismatched <= run.mismatched[0] / 2).argmax())  # when half of the pairs have found each other
    for axes, index in zip(lower.subplots(1, 3), (0, half, len(run.t) - 1), strict=True):
        _pairs(axes, run.x[index] @ plane, run.y[index] @ plane)
        axes.set(title=f"{name}, t = {run.t[index]:.3g}, Δ = {run.gap[index]:.2f}", xlabel="1st component")
        axes.set_aspect("equal", adjustable="datalim")
    lower.axes[0].set(ylabel="2nd component")
    lower.axes[0].legend(fontsize=8)
    return figure


def parallel_figure(seed: int = 0, pairs: int = 6, gamma: float = 0.45) -> Figure:
    """Figure 3: parallel modalities with matched and with mismatched pairs.

    Features (√(1-γ²) u, ±γ) lie on two parallel circles of the sphere; with matched pairs a match lies right above its
    partner, with mismatched ones some other does.

    Args:
        seed: Decides which pairs are mismatched.
        pairs: Features of each modality.
        gamma: γ.
    """
    figure = Figure(figsize=(9.6, 4.8))
    figure.subplots_adjust(left=0.02, right=0.96, top=0.9, bottom=0.02)
    angles = 2 * np.pi * np.arange(pairs) / pairs + 0.3
    radius = np.sqrt(1 - gamma**2)
    shuffled = np.roll(np.arange(pairs), 1 + seed % (pairs - 1))
    for number, (title, match) in enumerate({"matched": np.arange(pairs), "mismatched": shuffled}.items()):
        axes = figure.add_subplot(1, 2, number + 1, projection="3d")
        turn, height = np.meshgrid(np.linspace(0, 2 * np.pi, 40), np.linspace(-1, 1, 20))
        ring = np.sqrt(1 - height**2)
        axes.plot_wireframe(ring * np.cos(turn), ring * np.sin(turn), height, color="0.85", linewidth=0.4)
        upper = np.stack([radius * np.cos(angles), radius * np.sin(angles), np.full(pairs, gamma)])
        lower = np.stack([upper[0], upper[1], np.full(pairs, -gamma)])[:, match]
        axes.scatter(*upper, color=_RED, marker="o", s=36, label="image", depthshade=False)
        axes.scatter(*lower, color=_BLUE, marker="x", s=36, label="text", depthshade=False)
        for a, b in zip(upper.T, lower.T, strict=True):
            axes.plot(*np.stack([a, b]).T, color="0.35", linewidth=0.9)
        axes.set(title=f"({'ab'[number]}) {title} pairs: Δ ≥ 2γ = {2 * gamma:.1f}", xticks=[], yticks=[])
        axes.set_box_aspect((1, 1, 1))
        axes.set_zticks([-gamma, gamma], ["−γ", "γ"])
        axes.legend(fontsize=8, loc="lower left")
    return figure


def real_figure(step: Values, gap: Values, changes: Values) -> Figure:
    """Figure 4: Δ of a real CLIP over a long training, against 1/log² t, and its change over the first steps.

    Args:
        step: Steps at each record, from 0.
        gap: Δ at each.
        changes: Change of Δ over the first steps, one for each initialization.
    """
    figure = Figure(figsize=(14.4, 4.4), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    after = step > 1
    left.plot(step[after], gap[after], color="black", marker=".", linewidth=1.0)
    left.set(
        xlabel="training step t", ylabel="modality gap Δ (distance, 0 to 2)", xscale="log", title="(a) Δ over training"
    )
    peak = max(int(gap.argmax()), 2)
    across = 1 / np.log(step[peak:]) ** 2
    middle.plot(across, gap[peak:], color="black", marker=".", linestyle="none")
    slope, offset = np.polyfit(across, gap[peak:], 1)
    middle.plot(across, slope * across + offset, color=_BLUE, linestyle="--", label="least squares")
    middle.set(
        xlabel="1/log² t (natural logarithm)", ylabel="modality gap Δ", title="(b) against 1/log² t, after the peak"
    )
    middle.legend(fontsize=8)
    right.hist(changes, bins=20, color="0.7", edgecolor="black")
    right.axvline(0.0, color="black", linewidth=1.0)
    right.axvline(float(changes.mean()), color=_RED, linestyle="--", label=f"mean {changes.mean():.3f}")
    fraction = f"{(changes > 0).mean():.0%} positive"
    right.set(
        xlabel="change of Δ over the first 10 steps",
        ylabel=f"initializations (of {len(changes)})",
        title=f"(c) {fraction}",
    )
    right.legend(fontsize=8)
    for axes in figure.axes:
        axes.grid(alpha=0.25)
    return figure


def _pairs(axes: Axes, x: Values, y: Values) -> None:
    for a, b in zip(x, y, strict=True):
        axes.plot([a[0], b[0]], [a[1], b[1]], color="0.75", linewidth=0.5, zorder=1)
    axes.scatter(x[:, 0], x[:, 1], s=14, color=_RED, marker="o", label="image", zorder=2)
    axes.scatter(y[:, 0], y[:, 1], s=16, color=_BLUE, marker="x", label="text", linewidths=0.9, zorder=2)
