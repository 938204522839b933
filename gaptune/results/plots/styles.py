"""The style of each method in all plots: color and marker for the temperature, the filling for the swap."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Line = str | tuple[float, tuple[float, ...]]
Fill = Literal["full", "none", "left"]

# Okabe and Ito's colors, distinct for color-blind readers; markers and lines are distinct in black and white.
_FAMILIES: dict[str, tuple[str, str, str, Line]] = {
    "Baseline": ("#999999", "*", "star", "-"),
    "FLT": ("#0072B2", "o", "circle", ":"),
    "TS": ("#D55E00", "^", "triangle-up", "--"),
    "TR softplus": ("#009E73", "s", "square", "-."),
    "TR exp/s": ("#E69F00", "v", "triangle-down", (0, (6, 1, 1, 1))),
    "SLRT": ("#CC79A7", "D", "diamond", (0, (5, 1))),
    "TR softplus + SLRT": ("#56B4E9", "p", "pentagon", (0, (5, 3))),
    "TR exp/s + SLRT": ("#F0E442", "h", "hexagon", (0, (5, 5))),
}
_UNKNOWN: tuple[str, str, str, Line] = ("#000000", "P", "cross", "-")  # a method of a newer version
_SWAPS: dict[str, tuple[Fill, str, Line | None]] = {
    "": ("full", "", None),
    "HS": ("none", "-open", (0, (3, 1, 1, 1))),
    "SS": ("left", "-open-dot", (0, (1, 1))),
}
_NUMBERED = ("TS", "FLT", "HS", "SS")  # a schedule or a number follows them: TS cosine, FLT 0.04

COLORS = tuple(color for color, *_ in _FAMILIES.values())
MARKERS = tuple(marker for _, marker, *_ in _FAMILIES.values())
"""For series that are no methods, in turn."""


@dataclass(frozen=True)
class Style:
    """How a method is drawn.

    Attributes:
        group: Its name in legends; schedules that differ only in their shape share one.
        order: Place in a legend.
        color: In hex.
        marker: Matplotlib's.
        fill: Matplotlib's ``fillstyle``.
        line: Matplotlib's ``linestyle``.
        symbol: Plotly's.
    """

    group: str
    order: int
    color: str
    marker: str
    fill: Fill
    line: Line
    symbol: str


def style_of(method: str) -> Style:
    """The style of a method.

    Args:
        method: A name such as ``TS cosine + HS`` (``gaptune.space.methods.name_method``) or ``HS 0.001``
            (``gaptune.paper.claims``).
    """
    parts = [word if (word := part.split(" ")[0]) in _NUMBERED else part for part in method.split(" + ")]
    swap = parts[-1] if parts[-1] in _SWAPS else ""
    family = " + ".join(part for part in parts if part != swap) or "Baseline"
    color, marker, symbol, line = _FAMILIES.get(family, _UNKNOWN)
    fill, suffix, swap_line = _SWAPS[swap]
    place = list(_FAMILIES).index(family) if family in _FAMILIES else len(_FAMILIES)
    order = len(_SWAPS) * place + list(_SWAPS).index(swap)
    return Style(" + ".join(parts), order, color, marker, fill, swap_line or line, symbol + suffix)
