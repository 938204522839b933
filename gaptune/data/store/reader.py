"""Stores: images resized once and captions tokenized once, in Arrow files that all trials memory-map.

A store is a folder with one Arrow file per split and ``store.json``, which is written last. It is built under
another name and renamed when it is whole, so that an interrupted build is never taken for a finished one.
"""

from __future__ import annotations

import json
import mmap
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from gaptune.data.store.columns import columns_of, feature_meta
from gaptune.data.store.content import content_of
from gaptune.data.store.meta import (
    FORMAT,
    META,
    PROMPT_FEATURES,
    FileMeta,
    SplitMeta,
    StoreMeta,
    check_meta,
    content_hash_of,
    refuse_empty,
    sha256_of,
)
from gaptune.data.store.split import Split
from gaptune.data.tokens import tokenize
from gaptune.errors import UserError, did_you_mean, first_line

_OPTIONAL = ("features", "prompt_features")
_REQUIRED = tuple(name for name in StoreMeta.__dataclass_fields__ if name not in _OPTIONAL)

LARGE = 2**30
"""Bytes of images above which a split is read in blocks, and its pages are released."""

WINDOW = LARGE // 4
"""Bytes of images of a large split that are in memory at a time."""


class StoredSplit:
    """One memory-mapped split; its attributes are those of ``Split``.

    It is large if its images are more than ``LARGE`` bytes. Of a large split a small multiple of ``WINDOW`` bytes is
    resident, however much is read.

    Args:
        path: File of the split.
        meta: Description of the store.
    """

    def __init__(self, path: Path, meta: StoreMeta) -> None:
        with path.open("rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        table = pa.ipc.open_file(pa.py_buffer(self._map)).read_all()
        image, text = columns_of(meta.image_size, meta.context_length, meta.features)
        # Before format 2 features lay in the columns of images and tokens.
        old = "image" in table.column_names
        images, texts = (table["image"], table["tokens"]) if old else (table[image.name], table[text.name])
        image.check(images.type, "images")
        text.check(texts.type.value_type, "token rows")
        self.image_bytes = image.nbytes
        self._images = [image.from_arrow(chunk) for chunk in images.chunks]  # zero-copy
        self._shape, self._dtype = image.shape, image.dtype
        self._starts = np.cumsum([0, *(len(view) for view in self._images)])
        self._ids = table["id"]
        self._captions = table["captions"]
        # Tokens are small beside the images: one array, copied when the file has several batches.
        self.texts: npt.NDArray[Any] = _joined([text.from_arrow(chunk.flatten()) for chunk in texts.chunks])
        counts = [np.diff(chunk.offsets.to_numpy()) for chunk in texts.chunks]
        self.offsets: npt.NDArray[np.int64] = np.cumsum(np.concatenate([[0], *counts]), dtype=np.int64)
        self._labels = labels = table["label"]
        self.some_labels: npt.NDArray[np.int64] = labels.drop_null().to_numpy().astype(np.int64)
        self.labels: npt.NDArray[np.int64] | None = None if labels.null_count else self.some_labels
        self.large = len(self) * self.image_bytes > LARGE
        self._touched = 0
        self._let_go()

    def __len__(self) -> int:
        """Number of images."""
        return int(self._starts[-1])

    def gather(self, rows: npt.NDArray[np.integer[Any]], out: npt.NDArray[Any] | None = None) -> npt.NDArray[Any]:
        """Copies images out of the map; see ``Split.gather``."""
        images = np.empty((len(rows), *self._shape), dtype=self._dtype) if out is None else out
        batch = np.searchsorted(self._starts, rows, side="right") - 1
        for index in np.unique(batch):
            chosen = np.flatnonzero(batch == index)
            part = self._images[index]
            wanted = np.asarray(rows)[chosen] - self._starts[index]
            if len(chosen) == len(rows):  # each image is copied once, and straight to its place
                np.take(part, wanted, axis=0, out=images, mode="clip")
            else:
                images[chosen] = part[wanted]
        self._touched += images.nbytes
        if self._touched >= WINDOW:
            self._let_go()
        return images

    def _let_go(self) -> None:
        """Takes the pages of a large split out of this process's memory; they come back where they are read again."""
        if self.large:
            self._map.madvise(mmap.MADV_DONTNEED)
            self._touched = 0

    @property
    def ids(self) -> list[str]:
        """One id per image."""
        return list(self._ids.to_pylist())

    def label(self, row: int) -> int | None:
        """The label of an image, if it has one."""
        value = self._labels[row].as_py()
        return None if value is None else int(value)

    def captions(self, row: int) -> list[str]:
        """The captions of an image."""
        return list(self._captions[row].as_py())


class Store:
    """A finished store.

    Attributes:
        path: Folder of the store.
        meta: Description of its content.
    """

    def __init__(self, path: Path, meta: StoreMeta) -> None:
        self.path = path
        self.meta = meta
        self._splits: dict[str, Split] = {}

    def __contains__(self, split: str) -> bool:
        """Whether it has a split of that name."""
        return split in self.meta.splits

    def check_trainable(self) -> None:
        """Checks that there are pairs to train and to validate on; a store for evaluation alone may lack them.

        Raises:
            UserError: It has no split ``train`` or no split ``val``.
        """
        lacking = [name for name in ("train", "val") if name not in self]
        if lacking:
            has = ", ".join(self.meta.splits)
            raise UserError(
                f"{self.path} cannot be trained on: it has no {' and no '.join(lacking)} images, only {has} "
                "(--val-fraction of `gaptune data build` takes val from train)"
            )
        if bare := [name for name in ("train", "val") if not self.meta.splits[name].captions]:
            raise UserError(f"{self.path} cannot be trained on: its {' and '.join(bare)} images have no captions")

    def split(self, name: str) -> Split:
        """A split, opened once.

        Raises:
            UserError: There is no split of that name, or its file cannot be read.
        """
        if name not in self:
            raise UserError(f"{self.path} has no split {name!r}{did_you_mean(name, self.meta.splits)}")
        if name not in self._splits:
            self._splits[name] = self._open(name)
        return self._splits[name]

    def _open(self, name: str) -> Split:
        path = self.path / f"{name}.arrow"
        try:
            return StoredSplit(path, self.meta)
        except (pa.ArrowInvalid, OSError, ValueError) as error:
            raise UserError(f"corrupt store: {path}: {first_line(error)}") from None

    def prompt_features(self) -> npt.NDArray[Any] | None:
        """Features of the class prompts of a store of features, memory-mapped.

        Returns:
            Shape (classes, templates, text width), in the dtype of ``meta.features``; None without prompts.

        Raises:
            UserError: The file is damaged.
        """
        features = self.meta.features
        if features is None or self.meta.prompt_features is None:
            return None
        file = self.path / PROMPT_FEATURES
        try:
            found: npt.NDArray[Any] = np.load(file, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise UserError(f"corrupt store: {file}: {first_line(error)}") from None
        shape = len(self.meta.classes), len(self.meta.prompts), features.text
        if found.shape != shape or found.dtype != features.dtype:
            raise UserError(
                f"corrupt store: {file} has the shape {found.shape} ({found.dtype}), "
                f"but store.json means {shape} ({features.dtype})"
            )
        return found

    def verify(self) -> None:
        """Reads everything, and compares it with its hashes and with ``store.json``.

        Raises:
            UserError: A file has changed, or ``store.json`` does not say what the files hold.
        """
        self._check_description()
        for name, file in self.meta.files.items():
            if sha256_of(self.path / name) != file.sha256:
                raise UserError(f"corrupt store: {self.path / name} has changed since it was built")
        self.check()
        for name, split in self.meta.splits.items():
            if split.content and content_of(self._open(name)) != split.content:
                wrong = f"splits.{name}.content is not the hash of its features"
                raise UserError(f"corrupt store: {self.path / META}: {wrong}")

    def check(self) -> None:
        """Compares ``store.json`` with its own hash and with what the files hold, without reading images or features.

        Raises:
            UserError: They differ, or a file is damaged.
        """
        self._check_description()
        self.prompt_features()
        try:
            for name in self.meta.splits:
                _check_split(name, self._open(name), self.meta)
            _check_vocabulary(self)
        except ValueError as error:
            raise UserError(f"corrupt store: {self.path / META}: {error}") from None

    def _check_description(self) -> None:
        meta = self.meta
        if content_hash_of(meta.splits, meta.classes, meta.prompts, meta.prompt_features) != meta.content_hash:
            raise UserError(f"corrupt store: {self.path / META} has changed since it was built")


def read_store(path: Path) -> Store:
    """Opens a store's folder.

    Raises:
        UserError: It is missing, unfinished, damaged or empty.
    """
    try:
        content = json.loads((path / META).read_text(encoding="utf-8"))
        if content.get("format") not in range(1, FORMAT + 1):
            found = content.get("format")
            raise UserError(f"{path / META} has format {found!r}; this gaptune reads up to {FORMAT}")
        features = feature_meta(content.pop("features", None))  # the first stores had no such entry
        if features is not None:
            content |= {"image_size": 0, "context_length": 0}  # before format 2 they were 1 and the width
        prompts = content.get("prompt_features")  # before format 3 there were none
        fields = {name: content[name] for name in _REQUIRED}
        fields |= {"features": features, "prompt_features": None if prompts is None else FileMeta(**prompts)}
        fields["splits"] = {name: SplitMeta(**split) for name, split in fields["splits"].items()}
        fields |= {name: tuple(fields[name]) for name in ("vocabulary", "classes", "prompts")}
        meta = StoreMeta(**fields)
        check_meta(meta)
    except NotADirectoryError:
        raise UserError(
            f"a file, not a data store: {path} (`gaptune data features` makes a store of features in files, "
            "`gaptune data build` of images)"
        ) from None
    except FileNotFoundError:
        what = "an unfinished build" if ".partial-" in path.name else "not a data store"
        if not path.exists():
            what = "no such store"
        raise UserError(f"{what}: {path} (expected a folder with {META}, or `scenes`)") from None
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise UserError(f"corrupt store: {path / META}: {type(error).__name__}: {error}") from None
    for name, described in meta.files.items():
        file = path / name
        size = file.stat().st_size if file.exists() else -1
        if size != described.bytes:
            raise UserError(f"corrupt store: {file} has {max(size, 0)} bytes, expected {described.bytes}")
    refuse_empty(path, meta.splits)
    return Store(path, meta)


def _check_split(name: str, split: Split, meta: StoreMeta) -> None:
    """Compares a split with what ``store.json`` says of it; widths are compared when it is opened.

    Raises:
        ValueError: They differ.
    """
    said = meta.splits[name]
    for what, found, expected in (("images", len(split), said.images), ("captions", len(split.texts), said.captions)):
        if found != expected:
            raise ValueError(f"splits.{name}.{what} is {expected}, but there are {found}")
    labels = split.some_labels
    if meta.classes and len(labels) and not 0 <= labels.min() <= labels.max() < len(meta.classes):
        classes = len(meta.classes)
        raise ValueError(f"{name} has labels from {labels.min()} to {labels.max()}, but there are {classes} classes")


def _check_vocabulary(store: Store) -> None:
    """Compares the vocabulary with the tokens of training captions and prompts.

    Raises:
        ValueError: They differ.
    """
    meta = store.meta
    if meta.features:
        return
    used = {0}
    if "train" in store:
        used.update(np.unique(store.split("train").texts).tolist())
    texts = [prompt.format(name) for name in meta.classes for prompt in meta.prompts]
    if texts:
        used.update(np.unique(tokenize(texts, meta.context_length)).tolist())
    if wrong := sorted((used - {0}) ^ set(meta.vocabulary)):
        raise ValueError(
            f"vocabulary is not that of its captions and prompts: {len(wrong)} tokens differ, such as {wrong[0]}"
        )


def _joined(parts: list[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
