"""How methods look in every picture: a color and a shape for what the temperature does, the filling for the swap."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

# Okabe and Ito's colors, told apart by color-blind readers; each with a shape of its own, for black and white.
_FAMILIES = {
    "Baseline": ("#999999", "*", "star"),
    "FLT": ("#0072B2", "o", "circle"),
    "TS": ("#D55E00", "^", "triangle-up"),
    "TR softplus": ("#009E73", "s", "square"),
    "TR exp/s": ("#E69F00", "v", "triangle-down"),
    "SLRT": ("#CC79A7", "D", "diamond"),
    "TR softplus + SLRT": ("#56B4E9", "p", "pentagon"),
    "TR exp/s + SLRT": ("#F0E442", "h", "hexagon"),
}
_UNKNOWN = ("#000000", "P", "cross")  # of a ledger by another version, which may have further methods
_SWAPS: dict[str, tuple[Literal["full", "none", "left"], str]] = {
    "": ("full", ""),
    "HS": ("none", "-open"),
    "SS": ("left", "-open-dot"),
}


COLORS = tuple(color for color, _, _ in _FAMILIES.values())
MARKERS = tuple(marker for _, marker, _ in _FAMILIES.values())
"""For series that are no methods, in turn."""


@dataclass(frozen=True)
class Look:
    """How a method is drawn.

    Attributes:
        group: Its name in legends; schedules that differ only in their course share one.
        order: Place in a legend.
        color: In hex.
        marker: Matplotlib's.
        fill: Matplotlib's ``fillstyle``.
        symbol: Plotly's.
    """

    group: str
    order: int
    color: str
    marker: str
    fill: Literal["full", "none", "left"]
    symbol: str


def look(method: str) -> Look:
    """The look of a method as ``gaptune.space.methods.name_method`` names it, such as ``TS cosine + HS``."""
    parts = ["TS" if part.startswith("TS ") else part for part in method.split(" + ")]
    swap = parts[-1] if parts[-1] in _SWAPS else ""
    family = " + ".join(part for part in parts if part != swap) or "Baseline"
    color, marker, symbol = _FAMILIES.get(family, _UNKNOWN)
    fill, suffix = _SWAPS[swap]
    place = list(_FAMILIES).index(family) if family in _FAMILIES else len(_FAMILIES)
    order = len(_SWAPS) * place + list(_SWAPS).index(swap)
    return Look(" + ".join(parts), order, color, marker, fill, symbol + suffix)
