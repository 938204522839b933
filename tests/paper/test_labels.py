import itertools

import numpy as np
from matplotlib.figure import Figure
from matplotlib.text import Text

from gaptune.paper.figures.labels import name_point, spread_names


def test_names_of_crowded_points_cover_neither_one_another_nor_the_points():
    figure = Figure(figsize=(6, 5), layout="constrained")
    axes = figure.subplots()
    points = np.random.default_rng(0).normal(size=(25, 2)) * 0.05
    axes.plot(*points.T, "o", markersize=4)
    axes.set(xlim=(-0.3, 0.3), ylim=(-0.3, 0.3), xlabel="across", ylabel="up")
    for number, (x, y) in enumerate(points):
        name_point(axes, f"name {number}", (x, y))
    spread_names(figure)
    figure.draw_without_rendering()
    boxes = [Text.get_window_extent(text) for text in axes.texts]
    assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))
    assert not any(box.contains(*axes.transData.transform(point)) for box in boxes for point in points)
    assert all(axes.bbox.contains(*corner) for box in boxes for corner in (box.min, box.max))
