"""The features of a split as they lie in files: opened, paired, and named."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gaptune.data.embeddings.columns import column_names, read_columns, read_keys, read_pairs
from gaptune.data.embeddings.order import Numbers
from gaptune.data.embeddings.places import Place, listed, parts_of
from gaptune.data.embeddings.request import Request
from gaptune.data.embeddings.rows import Rows, open_rows
from gaptune.data.store.meta import storable
from gaptune.errors import UserError

_IDS, _CAPTIONS = ("key", "image_path"), ("caption",)
"""Columns of clip-retrieval's and img2dataset's metadata: the first that is there."""


@dataclass(frozen=True)
class Reading:
    """A split in its files.

    Attributes:
        images: Features of images.
        texts: Features of texts; None without.
        pairs: Rows of images, and rows of the texts that belong to them.
        ids: A name for each row of images; None for its number.
        captions: A caption for each row of texts; None where only features are known.
        unmatched: Number of texts whose key no image has.
    """

    images: Rows
    texts: Rows | None
    pairs: tuple[Numbers, Numbers]
    ids: Sequence[str] | None = None
    captions: Sequence[str] | None = None
    unmatched: int = 0

    def id(self, row: int) -> str:
        """The name of a row of images."""
        return str(row) if self.ids is None else self.ids[row]

    def caption(self, row: int) -> str:
        """The caption of a row of texts, or a placeholder."""
        return f"text {row}" if self.captions is None else self.captions[row]


def read_split(request: Request, split: str) -> Reading:
    """Opens the files of a split, and pairs their rows.

    Raises:
        UserError: They are not what they should be, or do not fit each other.
    """
    places = request.image[split]
    images = open_rows(places, "image")
    none = np.empty(0, dtype=np.int64)
    ids = _metadata(places, _IDS, len(images))
    if split not in request.text:
        return Reading(images, None, (none, none), ids)
    texts = open_rows(request.text[split], "text")
    captions = _metadata(request.text[split], _CAPTIONS, len(texts))
    if split in request.pairs:
        pairs = read_pairs(request.pairs[split], len(images), len(texts))
        return Reading(images, texts, pairs, ids, captions)
    if split in request.image_keys:
        keys = read_keys(request.image_keys[split], len(images))
        pairs = _by_key(request.image_keys[split], keys, read_keys(request.text_keys[split], len(texts)))
        return Reading(images, texts, pairs, keys, captions, len(texts) - len(pairs[1]))
    if len(images) != len(texts):
        raise UserError(
            f"{split} has {len(images)} images ({images}) and {len(texts)} texts ({texts}): rows pair one to one; "
            "give --pairs, or --image-keys and --text-keys"
        )
    rows = np.arange(len(images))
    return Reading(images, texts, (rows, rows), ids, captions)


def _by_key(place: Place, images: Sequence[str], texts: Sequence[str]) -> tuple[Numbers, Numbers]:
    rows: dict[str, int] = {}
    for row, key in enumerate(images):
        if rows.setdefault(key, row) != row:
            raise UserError(f"{listed([rows[key], row])}: the key {key!r} is given twice", file=place.path)
    found = [(rows[key], row) for row, key in enumerate(texts) if key in rows]
    if not found:
        raise UserError(f"no text has the key of an image: {images[0]!r} here, {texts[0]!r} there", file=place.path)
    pairs = np.array(found, dtype=np.int64)
    return pairs[:, 0], pairs[:, 1]


def _metadata(places: Sequence[Place], names: Sequence[str], rows: int) -> list[str] | None:
    """The first of some columns in the directory ``metadata`` beside the parts; None without."""
    folders = [place.path for place in places if place.path.is_dir()]
    inner = [top / "metadata" for folder in folders[:1] for top in (folder, folder.parent)]
    folder = next((path for path in inner if path.is_dir()), None)
    if folder is None:
        return None
    values: list[str] = []
    for part in parts_of(folder, ".parquet"):
        name = next((name for name in names if name in column_names(part)), None)
        if name is None:
            return None
        values += [storable(str(value)) for value in read_columns(part, [name])[0]]
    if len(values) != rows:
        raise UserError(f"has {len(values)} rows, but there are {rows} rows of features", file=folder)
    return values
