"""What a trial leaves for tests over photographs: ``outcomes.npz`` beside its checkpoints, a few kilobytes."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from gaptune.storage.atomic import replacing

FILE_NAME = "outcomes.npz"

_I2T = "/i2t_"  # queries are images; else captions
_NAMES, _VALUES = "centered_names", "centered_values"
_DAMAGED = (OSError, ValueError, KeyError, EOFError, BadZipFile, zlib.error)  # what numpy raises, or nothing is there


@dataclass(frozen=True)
class RetrievalOutcomes:
    """Retrieval of the validation split at the end of a training, query by query.

    Attributes:
        captions: Shape (n,): number of captions of each image, in the order of the captions.
        right: Whether each query is right, by metric: ``retrieval/i2t_r1`` with shape (n,), ``retrieval/t2i_r1`` with
            a value for each caption.
        centered: Metrics of the same embeddings after each modality's mean is removed.
    """

    captions: npt.NDArray[np.int64]
    right: Mapping[str, npt.NDArray[np.bool_]]
    centered: Mapping[str, float]

    def by_image(self, metric: str) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Number of right queries and of all queries of each image; two of shape (n,)."""
        right = self.right[metric].astype(np.float64)
        if _I2T in metric:
            return right, np.ones(len(right))
        starts = np.concatenate([[0], np.cumsum(self.captions)[:-1]])
        return np.add.reduceat(right, starts), self.captions.astype(np.float64)

    def save(self, folder: Path) -> None:
        """Writes the file: booleans as bits."""
        folder.mkdir(parents=True, exist_ok=True)
        arrays: dict[str, npt.NDArray[np.generic]] = {"captions": self.captions.astype(np.uint32)}
        arrays |= {name: np.packbits(right) for name, right in self.right.items()}
        arrays |= {_NAMES: np.array(list(self.centered)), _VALUES: np.array(list(self.centered.values()))}
        with replacing(folder / FILE_NAME) as half, half.open("wb") as file:
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]  # numpy's stub takes names for options


def load_outcomes(folder: Path) -> RetrievalOutcomes | None:
    """The outcomes in a trial's folder; None without the file, as in earlier versions, or with a damaged one."""
    try:
        with np.load(folder / FILE_NAME, allow_pickle=False) as file:
            return _read(dict(file))
    except _DAMAGED:
        return None


def _read(arrays: dict[str, npt.NDArray[Any]]) -> RetrievalOutcomes:
    captions = arrays.pop("captions").astype(np.int64)
    centered = dict(zip(arrays.pop(_NAMES).tolist(), arrays.pop(_VALUES).tolist(), strict=True))
    right = {
        name: np.unpackbits(bits, count=len(captions) if _I2T in name else int(captions.sum())).astype(bool)
        for name, bits in arrays.items()
    }
    return RetrievalOutcomes(captions, right, centered)
