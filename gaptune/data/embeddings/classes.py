"""Labels of images by row, and the names of their classes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from gaptune.data.embeddings.columns import check_count, read_column
from gaptune.data.embeddings.places import Place, listed
from gaptune.data.sources.labels import Classes, Label, normal_label
from gaptune.errors import UserError

Labels = npt.NDArray[np.int64]


def read_labels(
    places: Mapping[str, Place], rows: Mapping[str, int], names: Place | None
) -> tuple[tuple[str, ...], dict[str, Labels]]:
    """The names of the classes, and the label of each image by split.

    Args:
        places: Labels by split.
        rows: Number of images by split.
        names: File of the names, one a line; by default the labels say them.

    Raises:
        UserError: An image has no label, a label is no class, or there are more or fewer than images.
    """
    found = {split: _labels(place, rows[split]) for split, place in places.items()}
    if names is not None:
        classes = Classes(_names(names), str(names.path))
    else:
        origin = ", ".join(str(place.path) for place in places.values())
        classes = Classes.of_labels((label for labels in found.values() for label in labels), origin)
    indices = {split: _indices(labels, classes, places[split]) for split, labels in found.items()}
    return classes.names, indices


def _labels(place: Place, rows: int) -> list[Label]:
    values = read_column(place, "label")
    check_count(place, len(values), rows, "labels")
    labels = []
    for row, value in enumerate(values):
        try:
            labels.append(normal_label(value))
        except UserError as error:
            raise UserError(f"{listed([row])}: {error.message}", file=place.path) from None
    if missing := [row for row, label in enumerate(labels) if label is None]:
        raise UserError(f"{listed(missing)}: no label", file=place.path)
    return labels


def _names(place: Place) -> list[str]:
    names = [str(name) for name in read_column(place, "class")]
    if blank := [row for row, name in enumerate(names) if not name.strip()]:
        raise UserError(f"{listed(blank)}: no class name", file=place.path)
    return names


def _indices(labels: list[Label], classes: Classes, place: Place) -> Labels:
    indices = np.empty(len(labels), dtype=np.int64)
    for row, label in enumerate(labels):
        try:
            index = classes.index(label)
        except UserError as error:
            raise UserError(f"{listed([row])}: {error.message}", file=place.path) from None
        indices[row] = -1 if index is None else index
    return indices
