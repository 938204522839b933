"""Rows of features in a file that an interrupted run leaves behind and the next one continues."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gaptune.storage.atomic import replacing

Halves = npt.NDArray[np.float16]


class Rows:
    """An append-only file of float16, with a count of the rows that are safely on disk.

    Rows behind the count, which a killed process or machine left, are written again.

    Args:
        file: The file; the count is in a file beside it.
        width: Numbers per row.

    Attributes:
        done: Number of rows.
    """

    def __init__(self, file: Path, width: int) -> None:
        self._file = file
        self._counter = file.with_suffix(".count")
        self._width = width
        self.done = int(self._counter.read_text()) if self._counter.exists() else 0

    def append(self, rows: Halves) -> None:
        """Writes rows, and returns when they are on disk.

        Args:
            rows: Shape (n, width).
        """
        with self._file.open("r+b" if self._file.exists() else "wb") as file:
            file.seek(self.done * self._width * rows.itemsize)
            file.write(rows.tobytes())
            file.flush()
            os.fsync(file.fileno())
        self.done += len(rows)
        with replacing(self._counter) as counter:
            counter.write_text(str(self.done))

    def read(self) -> Halves:
        """All rows, memory-mapped, shape (done, width)."""
        if not self.done:
            return np.empty((0, self._width), dtype=np.float16)
        return np.memmap(self._file, dtype=np.float16, mode="r", shape=(self.done, self._width))
