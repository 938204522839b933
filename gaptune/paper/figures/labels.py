"""Names beside their points that do not lie on one another."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text
from matplotlib.transforms import Bbox

_SIZE = 7  # of the letters, in points
_REACHES = (1.0, 2.0, 3.5, 5.0, 7.0, 9.0)  # how far a name may lie from its point, in heights of its letters


def name_point(axes: Axes, name: str, point: tuple[float, float]) -> None:
    """Writes a name beside a point; ``spread_names`` finds its place."""
    line = {"arrowstyle": "-", "linewidth": 0.4, "color": "0.4", "shrinkA": 0, "shrinkB": 2}
    edge = {"pad": 0, "facecolor": "none", "edgecolor": "none"}  # where the line ends
    axes.annotate(name, point, xytext=(0, 0), textcoords="offset points", fontsize=_SIZE, arrowprops=line, bbox=edge)


def spread_names(figure: Figure) -> None:
    """Moves each name to the nearest place within the axes where it covers neither another name nor a point of a line.

    Where there is none within reach, the name stays on its point.
    """
    figure.draw_without_rendering()  # the layout is only then known
    pixels = figure.dpi / 72  # per point
    height = _SIZE * pixels
    for axes in figure.axes:
        names = [text for text in axes.texts if isinstance(text, Annotation)]
        points = [point for line in axes.lines for point in axes.transData.transform(line.get_xydata())]
        taken = [Bbox.from_bounds(x - height / 2, y - height / 2, height, height) for x, y in points]
        for name in names:
            at, box = axes.transData.transform(name.xy).tolist(), Text.get_window_extent(name)  # without its line
            for x, y in _places(at, box.width, box.height, height):
                place = Bbox.from_bounds(x, y, box.width, box.height)
                if _within(place, axes.bbox) and not place.count_overlaps(taken):
                    name.set_position(((x - at[0]) / pixels, (y - at[1]) / pixels))
                    taken.append(place)
                    break


def _places(point: Sequence[float], width: float, height: float, unit: float) -> Iterator[tuple[float, float]]:
    """Lower left corners, the nearest first: around the point, beginning at the upper right."""
    for reach in _REACHES:
        for step in range(12):
            angle = math.pi / 4 + step * math.pi / 6
            right, up = math.cos(angle), math.sin(angle)
            yield (
                point[0] + unit * reach * right + width * (right - 1) / 2,
                point[1] + unit * reach * up + height * (up - 1) / 2,
            )


def _within(box: Bbox, whole: Bbox) -> bool:
    return bool(whole.x0 <= box.x0 and box.x1 <= whole.x1 and whole.y0 <= box.y0 and box.y1 <= whole.y1)
