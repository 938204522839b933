"""Several stores as one: training pairs drawn from each by weight."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gaptune.data.store import Split, SplitMeta, Store, StoreMeta
from gaptune.errors import UserError


class MixedSplit(Split):
    """The training splits of several stores, one after the other.

    Attributes:
        parts: The splits.
        weights: How much of an epoch is drawn from each, relative to the others.
    """

    def __init__(self, parts: Sequence[Split], weights: Sequence[float]) -> None:
        self.parts = tuple(parts)
        self.weights = tuple(weights)
        self.starts = np.cumsum([0, *map(len, parts)])
        self.tokens = np.concatenate([part.tokens for part in parts])
        counts = np.concatenate([np.diff(part.offsets) for part in parts])
        self.offsets = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
        self.labels = None  # classes of one store mean nothing in another
        self.shape = parts[0].shape
        self.image_bytes = parts[0].image_bytes
        self.large = any(part.large for part in parts)

    def __len__(self) -> int:
        """Number of images of all stores together, which is also how many are drawn in an epoch."""
        return int(self.starts[-1])

    def gather(self, rows: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.uint8]:
        """Copies images out of the maps; see ``Split.gather``."""
        part = np.searchsorted(self.starts, rows, side="right") - 1
        chosen = [(index, part == index) for index in np.unique(part)]
        found = [
            (mine, self.parts[index].gather(np.asarray(rows)[mine] - self.starts[index])) for index, mine in chosen
        ]
        images = np.empty((len(rows), *found[0][1].shape[1:]), dtype=np.uint8)
        for mine, mine_images in found:
            images[mine] = mine_images
        return images

    @property
    def ids(self) -> list[str]:
        """One id per image."""
        return [id for part in self.parts for id in part.ids]

    def captions(self, row: int) -> list[str]:
        """The captions of an image."""
        index = int(np.searchsorted(self.starts, row, side="right")) - 1
        return self.parts[index].captions(row - int(self.starts[index]))


class Mixture(Store):
    """A store whose ``train`` is drawn from several stores, and whose other splits are those of one.

    Args:
        home: The store of all splits but ``train``.
        parts: The stores that are mixed, by what people call them.
        weights: How much of an epoch comes from each, by the same names.

    Raises:
        UserError: A store has no ``train``, or images of another size or captions of another length than ``home``.
    """

    def __init__(self, home: Store, parts: Mapping[str, Store], weights: Mapping[str, float]) -> None:
        for name, store in parts.items():
            for what, mine, wanted in (
                ("images of {} pixels", store.meta.image_size, home.meta.image_size),
                ("captions of {} tokens", store.meta.context_length, home.meta.context_length),
                ("features of {} numbers", store.meta.features, home.meta.features),
            ):
                if mine != wanted:
                    told = f"{what.format(mine)}, {home.path} has {what.format(wanted)}"
                    raise UserError(
                        f"{name} cannot be mixed in: it has {told}; build it with the same size and context"
                    )
            if "train" not in store:
                raise UserError(f"{name} cannot be mixed in: it has no train images")
        self._home = home
        self._parts = parts
        self._weights = weights
        super().__init__(home.path, _meta(home, parts, weights))

    def split(self, name: str) -> Split:
        """Opens a split.

        Raises:
            UserError: There is no split of that name, or a file cannot be read.
        """
        if name != "train":
            return self._home.split(name)
        return MixedSplit([store.split("train") for store in self._parts.values()], list(self._weights.values()))

    def verify(self) -> None:
        """Verifies each of its stores."""
        for store in {store.path: store for store in (self._home, *self._parts.values())}.values():
            store.verify()


def _meta(home: Store, parts: Mapping[str, Store], weights: Mapping[str, float]) -> StoreMeta:
    metas = [store.meta for store in parts.values()]
    trains = [meta.splits["train"] for meta in metas]
    parts_hashes = [[store.meta.content_hash, float(weights[name])] for name, store in parts.items()]
    content_hash = hashlib.sha256(json.dumps([home.meta.content_hash, parts_hashes]).encode()).hexdigest()
    train = SplitMeta(
        images=sum(split.images for split in trains),
        captions=sum(split.captions for split in trains),
        bytes=sum(split.bytes for split in trains),
        sha256=content_hash,
    )
    return StoreMeta(
        name=" + ".join(f"{weights[name]:g} {Path(name).name}" for name in parts),
        image_size=home.meta.image_size,
        context_length=home.meta.context_length,
        content_hash=content_hash,
        splits={"train": train} | {name: split for name, split in home.meta.splits.items() if name != "train"},
        vocabulary=tuple(sorted({token for meta in (home.meta, *metas) for token in meta.vocabulary})),
        classes=home.meta.classes,
        prompts=home.meta.prompts,
        features=home.meta.features,
    )
