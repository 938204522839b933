"""The order of a split's rows: by content, so that it depends neither on keys nor on the order in the files."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gaptune.data.embeddings.rows import Hashes

Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Arranged:
    """Images of a split with their texts, in the order in which they are stored.

    Attributes:
        images: Row of each image in its files, shape (n,).
        texts: Row of each text in its files, in the order of the images, shape (m,).
        offsets: Texts of image i are ``texts[offsets[i]:offsets[i + 1]]``, shape (n + 1,).
        hashes: Hash of each image, shape (n,).
        labels: Label of each image, shape (n,); None without labels.
    """

    images: Numbers
    texts: Numbers
    offsets: Numbers
    hashes: Hashes
    labels: Numbers | None

    def of(self, chosen: npt.NDArray[Any]) -> Arranged:
        """Some of the images, by their indices or a mask."""
        rows = np.arange(len(self.images))[chosen]
        counts = np.diff(self.offsets)[rows]
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        inner = np.arange(offsets[-1]) - np.repeat(offsets[:-1], counts)
        texts = self.texts[np.repeat(self.offsets[rows], counts) + inner]
        labels = None if self.labels is None else self.labels[rows]
        return Arranged(self.images[rows], texts, offsets, self.hashes[rows], labels)

    def fraction(self, fraction: float) -> npt.NDArray[np.bool_]:
        """A mask of about a fraction of the images, by their hash: others do not change when images are added."""
        first = np.frombuffer(self.hashes.tobytes(), ">u8")[::2]
        return np.asarray(first < fraction * 2.0**64)


def arrange(
    images: Hashes, texts: Hashes, pairs: tuple[Numbers, Numbers], labels: Numbers | None, *, published: bool
) -> Arranged:
    """Orders a split by content.

    Rows of images with equal features become one image with the texts of all, each once. Images that have no text and
    no label are left out.

    Args:
        images: Hash of each row of images.
        texts: Hash of each row of texts.
        pairs: Rows of images, and rows of the texts that belong to them.
        labels: Labels of the images; None without.
        published: Whether repeated images are kept, as in benchmarks.
    """
    first, group = np.arange(len(images)), np.arange(len(images))
    if not published:
        _, first, group = np.unique(images, return_index=True, return_inverse=True)
    owner, rows = group[pairs[0]], pairs[1]
    order = np.lexsort((texts[rows], owner))
    owner, rows = owner[order], rows[order]
    if not published and len(rows):
        again = (owner[1:] == owner[:-1]) & (texts[rows[1:]] == texts[rows[:-1]])
        kept = np.concatenate([[True], ~again])
        owner, rows = owner[kept], rows[kept]
    offsets = np.concatenate([[0], np.cumsum(np.bincount(owner, minlength=len(first)))]).astype(np.int64)
    found = Arranged(first, rows, offsets, images[first], None if labels is None else labels[first])
    chosen = np.argsort(_keys(found, texts), kind="stable")
    if labels is None:
        chosen = chosen[np.diff(offsets)[chosen] > 0]
    return found.of(chosen)


def _keys(found: Arranged, texts: Hashes) -> Hashes:
    """A hash of each image with its texts and its label."""
    of_texts = texts[found.texts].tobytes()
    of_images = found.hashes.tobytes()
    labels = [b""] * len(found.images) if found.labels is None else [b"%d" % label for label in found.labels]
    bounds = (16 * found.offsets).tolist()
    keys = np.empty(len(found.images), "S16")
    for row, label in enumerate(labels):
        content = of_images[16 * row : 16 * row + 16] + of_texts[bounds[row] : bounds[row + 1]] + label
        keys[row] = hashlib.blake2b(content, digest_size=16).digest()
    return keys
