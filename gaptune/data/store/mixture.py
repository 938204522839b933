"""Several stores as one: training pairs drawn from each by weight."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gaptune.data.store.keys import Keys, image_keys
from gaptune.data.store.meta import SplitMeta, StoreMeta
from gaptune.data.store.reader import Store
from gaptune.data.store.split import Split
from gaptune.errors import UserError

Rows = npt.NDArray[np.int64]


class PartialSplit:
    """Some images of a split, under new row numbers; its attributes are those of ``Split``.

    Args:
        split: The split.
        rows: Rows of the chosen images, in order.
    """

    def __init__(self, split: Split, rows: Rows) -> None:
        self._split = split
        self._rows = rows
        counts = np.diff(split.offsets)
        chosen = np.zeros(len(split), dtype=bool)
        chosen[rows] = True
        self.texts = split.texts[np.repeat(chosen, counts)]
        self.offsets: Rows = np.concatenate([[0], np.cumsum(counts[rows], dtype=np.int64)])
        self.labels = None if split.labels is None else split.labels[rows]
        self.image_bytes = split.image_bytes
        self.large = split.large

    def __len__(self) -> int:
        """Number of images."""
        return len(self._rows)

    def gather(self, rows: npt.NDArray[np.integer[Any]], out: npt.NDArray[Any] | None = None) -> npt.NDArray[Any]:
        """Copies images out of the map; see ``Split.gather``."""
        return self._split.gather(self._rows[rows], out)

    @property
    def ids(self) -> list[str]:
        """One id per image."""
        ids = self._split.ids
        return [ids[row] for row in self._rows]

    @property
    def some_labels(self) -> npt.NDArray[np.int64]:
        """Labels of the images that have one, in their order."""
        labels = (self._split.label(row) for row in self._rows.tolist())
        return np.array([label for label in labels if label is not None], dtype=np.int64)

    def label(self, row: int) -> int | None:
        """The label of an image, if it has one."""
        return self._split.label(int(self._rows[row]))

    def captions(self, row: int) -> list[str]:
        """The captions of an image."""
        return self._split.captions(int(self._rows[row]))


class MixedSplit:
    """The training splits of several stores, one after the other; its attributes are those of ``Split``.

    Its images have no labels: classes of one store mean nothing in another.

    Attributes:
        parts: The splits.
        weights: Relative parts of an epoch that are drawn from each.
        same: int64, shape (images,): of each image the first that has the same pixels; None where all differ.
        starts: The first row of each split, and the number of all rows.
    """

    def __init__(self, parts: Sequence[Split], weights: Sequence[float], same: Rows | None = None) -> None:
        self.parts = tuple(parts)
        self.weights = tuple(weights)
        self.same = same
        self.starts = np.cumsum([0, *map(len, parts)])
        self.texts = np.concatenate([part.texts for part in parts])
        counts = np.concatenate([np.diff(part.offsets) for part in parts])
        self.offsets: Rows = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
        self.labels: Rows | None = None
        self.image_bytes = parts[0].image_bytes
        self.large = any(part.large for part in parts)
        self.some_labels = np.empty(0, dtype=np.int64)

    def __len__(self) -> int:
        """Number of images of all stores together, which is also how many are drawn in an epoch."""
        return int(self.starts[-1])

    def gather(self, rows: npt.NDArray[np.integer[Any]], out: npt.NDArray[Any] | None = None) -> npt.NDArray[Any]:
        """Copies images out of the maps; see ``Split.gather``."""
        part = np.searchsorted(self.starts, rows, side="right") - 1
        chosen = [(index, part == index) for index in np.unique(part)]
        found = [
            (mine, self.parts[index].gather(np.asarray(rows)[mine] - self.starts[index])) for index, mine in chosen
        ]
        images = np.empty((len(rows), *found[0][1].shape[1:]), dtype=found[0][1].dtype) if out is None else out
        for mine, mine_images in found:
            images[mine] = mine_images
        return images

    @property
    def ids(self) -> list[str]:
        """One id per image."""
        return [id for part in self.parts for id in part.ids]

    def label(self, row: int) -> int | None:
        """None: see the class."""
        return None

    def captions(self, row: int) -> list[str]:
        """The captions of an image."""
        index = int(np.searchsorted(self.starts, row, side="right")) - 1
        return self.parts[index].captions(row - int(self.starts[index]))


class Mixture(Store):
    """A store whose ``train`` is drawn from several stores, and whose other splits are those of one.

    Training images that are in the ``val`` of that one are left out, as ``build`` does within a store.

    Args:
        home: The store of all splits but ``train``.
        parts: The stores that are mixed, by what people call them.
        weights: Relative parts of an epoch, by the same names.

    Attributes:
        left_out: Number of images of each store that are left out, by the same names.
        fractions: The images of each store that are trained on, and its weight, by the same names.

    Raises:
        UserError: A store has no ``train`` beside what is in ``val``, or images of another size or captions of another
            length than ``home``.
    """

    def __init__(self, home: Store, parts: Mapping[str, Store], weights: Mapping[str, float]) -> None:
        for name, store in parts.items():
            for mine, wanted in zip(_sizes(store.meta), _sizes(home.meta), strict=True):
                if mine != wanted:
                    told = f"{mine}, {home.path} has {wanted}"
                    raise UserError(
                        f"{name} cannot be mixed in: it has {told}; build it with the same size and context"
                    )
            if "train" not in store:
                raise UserError(f"{name} cannot be mixed in: it has no train images")
        self._home = home
        self._parts = parts
        self._weights = weights
        val = _keys(home, "val") if "val" in home else np.empty(0, dtype=np.uint64)
        kept = {name: np.isin(_keys(store, "train"), val, invert=True) for name, store in parts.items()}
        self.left_out = {name: int((~mine).sum()) for name, mine in kept.items()}
        self.fractions = {name: (int(mine.sum()), weights[name]) for name, mine in kept.items()}
        for name, (images, _) in self.fractions.items():
            if not images:
                raise UserError(f"{name} cannot be mixed in: all its train images are in val of {home.path}")
        self._kept = {name: np.flatnonzero(mine) for name, mine in kept.items() if self.left_out[name]}
        super().__init__(home.path, _meta(home, parts, weights, self._kept))

    def _open(self, name: str) -> Split:
        if name != "train":
            return self._home.split(name)
        parts, keys = [], []
        for part, store in self._parts.items():
            split = store.split("train")
            mine = image_keys(split, store.meta.splits["train"].sha256)
            if part in self._kept:
                split, mine = PartialSplit(split, self._kept[part]), mine[self._kept[part]]
            parts.append(split)
            keys.append(mine)
        return MixedSplit(parts, list(self._weights.values()), _same(np.concatenate(keys)))

    def verify(self) -> None:
        """Verifies each of its stores."""
        for store in {store.path: store for store in (self._home, *self._parts.values())}.values():
            store.verify()


def _keys(store: Store, split: str) -> Keys:
    return image_keys(store.split(split), store.meta.splits[split].sha256)


def _sizes(meta: StoreMeta) -> tuple[str, str]:
    return meta.images, f"captions of {meta.context_length} tokens"


def _same(keys: Keys) -> Rows | None:
    _, first, which = np.unique(keys, return_index=True, return_inverse=True)
    return None if len(first) == len(keys) else first[which]


def _meta(home: Store, parts: Mapping[str, Store], weights: Mapping[str, float], kept: Mapping[str, Rows]) -> StoreMeta:
    metas = [store.meta for store in parts.values()]
    images, captions = 0, 0
    for name, store in parts.items():
        whole = store.meta.splits["train"]
        images += len(kept[name]) if name in kept else whole.images
        captions += int(np.diff(store.split("train").offsets)[kept[name]].sum()) if name in kept else whole.captions
    parts_hashes = [
        [store.meta.content_hash, float(weights[name]), *([len(kept[name])] if name in kept else [])]
        for name, store in parts.items()
    ]
    content_hash = hashlib.sha256(json.dumps([home.meta.content_hash, parts_hashes]).encode()).hexdigest()
    train = SplitMeta(
        images=images,
        captions=captions,
        bytes=sum(meta.splits["train"].bytes for meta in metas),
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
        prompt_features=home.meta.prompt_features,
    )
