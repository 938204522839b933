"""What is done with features before they are stored: divided by their length, and the training mean subtracted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from gaptune.data.embeddings.order import Numbers
from gaptune.data.embeddings.rows import Rows
from gaptune.data.store.columns import FeatureMeta
from gaptune.data.store.reader import Store
from gaptune.errors import UserError

AT_ONCE = 1024  # rows


@dataclass(frozen=True)
class Treatment:
    """How features are changed: first normalized, then centered.

    Attributes:
        normalize: Whether each row is divided by its length.
        means: What is subtracted from the rows of ``image`` and of ``text``; empty for nothing.
    """

    normalize: bool
    means: Mapping[str, npt.NDArray[np.float64]] = field(default_factory=dict)

    @classmethod
    def of_store(cls, store: Store) -> Treatment:
        """What was done with the features of a store.

        Raises:
            UserError: The store holds images.
        """
        if store.meta.features is None:
            raise UserError(f"{store.path} holds images, not features")
        means = store.meta.source.get("center") or {}
        return cls(bool(store.meta.source.get("normalize")), {name: np.array(mean) for name, mean in means.items()})

    def check(self, features: FeatureMeta) -> None:
        """Checks that features can be treated in this way.

        Raises:
            UserError: The means have other widths.
        """
        for modality, mean in self.means.items():
            if len(mean) != (width := getattr(features, modality)):
                raise UserError(f"the {modality} features have {width} numbers, those of --treated-as {len(mean)}")

    def apply(self, block: npt.NDArray[Any], modality: str) -> npt.NDArray[Any]:
        """Treated rows, in the dtype of ``block``.

        Raises:
            UserError: A row would be all zeros.
        """
        if not self.normalize and not self.means:
            return block
        values = self._normalized(block)
        if self.means:
            values = values - self.means[modality]
        found = values.astype(block.dtype)
        if not found.any(axis=1).all():
            raise UserError(f"a feature of {modality}s equals their training mean, so that --center would make it zero")
        return found

    def centered(self, rows: Mapping[str, tuple[Rows, Numbers]], dtype: npt.DTypeLike) -> Treatment:
        """The same with the means of training features, each with the rows that count, in the order stored."""
        means = {}
        for modality, (source, chosen) in rows.items():
            total = np.zeros(source.width)
            for block in blocks(source, chosen, dtype):
                total += self._normalized(block).sum(axis=0)
            means[modality] = total / max(1, len(chosen))
        return Treatment(self.normalize, means)

    def described(self) -> dict[str, Any]:
        """What ``store.json`` says of it, with the means in full."""
        return {"normalize": self.normalize, "center": {name: mean.tolist() for name, mean in self.means.items()}}

    def _normalized(self, block: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        values = block.astype(np.float64)
        return values / np.sqrt((values * values).sum(axis=1, keepdims=True)) if self.normalize else values


def blocks(source: Rows, rows: Numbers, dtype: npt.DTypeLike) -> Iterator[npt.NDArray[Any]]:
    """Rows in blocks of ``AT_ONCE``."""
    for first in range(0, len(rows), AT_ONCE):
        yield source.gather(rows[first : first + AT_ONCE], dtype)
