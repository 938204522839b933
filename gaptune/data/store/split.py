"""The interface of a split, whether it is one file or drawn from several."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt


class Split(Protocol):
    """Images with their captions, or the features of both.

    Attributes:
        texts: All captions in the order of the images: token ids, uint16 of shape (captions, context length); or, in a
            store of features, numbers of shape (captions, width).
        offsets: int64, shape (images + 1,): captions of image i are rows ``offsets[i]:offsets[i + 1]``.
        labels: int64, shape (images,), or None where an image has none.
        image_bytes: Bytes of an image, or of its features.
        large: Whether its images are too many to be held in memory, so that they are best read in blocks.
    """

    texts: npt.NDArray[Any]
    offsets: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64] | None
    image_bytes: int
    large: bool

    def __len__(self) -> int:
        """Number of images."""

    def gather(self, rows: npt.NDArray[np.integer[Any]], out: npt.NDArray[Any] | None = None) -> npt.NDArray[Any]:
        """Copies images.

        Args:
            rows: Indices, shape (n,).
            out: Array that they are written to; None for a new one.

        Returns:
            Pixels, uint8 of shape (n, side, side, 3); or, in a store of features, numbers of shape (n, width).
        """

    @property
    def ids(self) -> list[str]:
        """One id per image."""

    @property
    def some_labels(self) -> npt.NDArray[np.int64]:
        """Labels of the images that have one, in their order."""

    def label(self, row: int) -> int | None:
        """The label of an image, if it has one."""

    def captions(self, row: int) -> list[str]:
        """The captions of an image."""
