"""Rows of features over the parts of a split: checked, hashed, and gathered in any order."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gaptune.data.embeddings.arrays import Array, open_features
from gaptune.data.embeddings.places import Place, listed, parts_of
from gaptune.errors import UserError

Hashes = npt.NDArray[np.bytes_]
"""A hash of 16 bytes for each row, as ``S16``."""

_BYTES_AT_ONCE = 2**25
_FOLDERS = {"image": "img_emb", "text": "text_emb"}
"""Directories of clip-retrieval's parts."""


class Rows:
    """Features of one modality in one split, of one or several files, one after the other.

    Args:
        files: Files of the parts.
        arrays: Their arrays.

    Attributes:
        width: Numbers in a row.
        dtype: The widest of the parts' types.

    Raises:
        UserError: Parts have different widths.
    """

    def __init__(self, files: Sequence[Path], arrays: Sequence[Array]) -> None:
        self._files, self._arrays = files, arrays
        self._starts = np.cumsum([0, *map(len, arrays)])
        self.width = int(arrays[0].shape[1])
        self.dtype = np.result_type(*(array.dtype for array in arrays))
        for file, array in zip(files, arrays, strict=True):
            if array.shape[1] != self.width:
                raise UserError(
                    f"has features of {array.shape[1]} numbers, {files[0]} of {self.width}: "
                    "two different towers in one split",
                    file=file,
                )

    def __len__(self) -> int:
        """Number of rows."""
        return int(self._starts[-1])

    def __str__(self) -> str:
        """The files, for messages."""
        return str(self._files[0]) + (f" and {len(self._files) - 1} more" if len(self._files) > 1 else "")

    def gather(self, rows: npt.NDArray[np.int64], dtype: npt.DTypeLike) -> Array:
        """Copies rows, shape (n, width)."""
        found = np.empty((len(rows), self.width), dtype)
        part = np.searchsorted(self._starts, rows, side="right") - 1
        for index in np.unique(part):
            mine = part == index
            found[mine] = self._arrays[index][rows[mine] - self._starts[index]]
        return found

    def hashes(self, dtype: npt.DTypeLike) -> Hashes:
        """Reads all rows once, checks them, and hashes each as it is stored in ``dtype``.

        Raises:
            UserError: A row is not finite, or all zeros.
        """
        return np.concatenate([self._hashed(index, np.dtype(dtype)) for index in range(len(self._arrays))])

    def _hashed(self, index: int, dtype: np.dtype[Any]) -> Hashes:
        wrong: dict[str, list[int]] = {"NaN or infinite": [], "all zeros": []}
        hashes = np.empty(len(self._arrays[index]), "S16")
        for first, block in _blocks(self._arrays[index], dtype):
            finite = np.isfinite(block).all(axis=1)
            wrong["NaN or infinite"] += (np.flatnonzero(~finite) + first).tolist()
            wrong["all zeros"] += (np.flatnonzero(~block.any(axis=1)) + first).tolist()
            hashes[first : first + len(block)] = [hashlib.blake2b(row, digest_size=16).digest() for row in block]
        for what, rows in wrong.items():
            if rows:
                beyond = f" (or too large for {dtype})" if what.startswith("NaN") else ""
                raise UserError(f"{listed(rows)}: {what}{beyond}", file=self._files[index])
        return hashes


def open_rows(places: Sequence[Place], modality: str) -> Rows:
    """The features of a split.

    Args:
        places: Files, or directories of ``.npy`` parts, such as clip-retrieval's ``img_emb`` and ``text_emb``, or of
            both.
        modality: ``image`` or ``text``.

    Raises:
        UserError: A file is damaged, or holds something else.
    """
    files: list[Place] = []
    for place in places:
        if place.path.is_dir():
            inner = place.path / _FOLDERS[modality]
            files += [Place(part, None) for part in parts_of(inner if inner.is_dir() else place.path, ".npy")]
        else:
            files.append(place)
    return Rows([file.path for file in files], [open_features(file) for file in files])


def _blocks(array: Array, dtype: np.dtype[Any]) -> Iterator[tuple[int, Array]]:
    step = max(1, _BYTES_AT_ONCE // (array.shape[1] * dtype.itemsize))
    for first in range(0, len(array), step):
        with np.errstate(over="ignore", invalid="ignore"):
            yield first, np.ascontiguousarray(array[first : first + step], dtype)
