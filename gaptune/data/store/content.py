"""The hash of the features in a split: over what a training sees, and not over names and captions."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np
import numpy.typing as npt

from gaptune.data.store.split import Split

NO_LABEL = -1
"""In place of the label of an image that has none."""

_AT_ONCE = 2**26  # bytes of features that are held


class Content:
    """Hashes features, the number of texts of each image, and labels, row by row.

    Blocks of any size give the same hash, as long as the rows are the same and in the same order.
    """

    def __init__(self) -> None:
        self._parts = {name: hashlib.sha256() for name in ("images", "texts", "counts", "labels")}

    def update(
        self,
        images: npt.NDArray[Any],
        texts: npt.NDArray[Any],
        counts: npt.NDArray[np.int64],
        labels: npt.NDArray[np.int64],
    ) -> None:
        """Adds rows.

        Args:
            images: Features of images, shape (n, width).
            texts: Features of their texts, shape (sum of counts, width).
            counts: Texts of each image, shape (n,).
            labels: Labels, shape (n,); ``NO_LABEL`` where there is none.
        """
        for name, array in (("images", images), ("texts", texts), ("counts", counts), ("labels", labels)):
            self._parts[name].update(np.ascontiguousarray(array).view(np.uint8).data)

    def hexdigest(self) -> str:
        """SHA-256 in hex."""
        parts = {name: part.hexdigest() for name, part in self._parts.items()}
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def content_of(split: Split) -> str:
    """The hash of a split of features, as ``Content`` gives it."""
    content = Content()
    counts = np.diff(split.offsets)
    labels = split.labels
    if labels is None:
        each = (split.label(row) for row in range(len(split)))
        labels = np.array([NO_LABEL if label is None else label for label in each], dtype=np.int64)
    block = max(1, _AT_ONCE // split.image_bytes)
    for first in range(0, len(split), block):
        rows = np.arange(first, min(first + block, len(split)))
        texts = split.texts[split.offsets[first] : split.offsets[rows[-1] + 1]]
        content.update(split.gather(rows), texts, counts[rows], labels[rows])
    return content.hexdigest()
