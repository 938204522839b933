"""Stores: images resized once and captions tokenized once, in Arrow files that all trials memory-map.

A store is a folder with one Arrow file per split and ``store.json``, which is written last. It is built under
another name and renamed when it is whole, so that an interrupted build leaves nothing that looks finished.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import shutil
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from gaptune.errors import UserError, did_you_mean

META = "store.json"
FORMAT = 1
_ROWS = 1024  # images per record batch: gathers touch few batches, builds hold few images

LARGE = 2**30
"""Bytes of images above which a split is read in blocks, and its pages are let go of."""

WINDOW = LARGE // 4
"""Bytes of images of a large split that are in memory at a time."""


@dataclass(frozen=True)
class SplitMeta:
    """Size of a split, and of its file: ``bytes`` shows a truncated one at once, ``sha256`` a changed one."""

    images: int
    captions: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class StoreMeta:
    """The content of ``store.json``.

    Attributes:
        name: What people call it.
        image_size: Side of the square images in pixels.
        context_length: Token ids per caption.
        content_hash: SHA-256 in hex over everything a training sees.
        splits: Sizes by split.
        vocabulary: Sorted ids of the tokens that training captions and prompts use, start and end included.
        classes: Names of the classes; empty without labels.
        prompts: Templates such as ``a photo of a {}`` for zero-shot classification.
        source: How it was made: arguments, versions, what was skipped.
        features: Width of the features that the store holds in place of images and tokens, each as the two bytes of a
            float16; 0 for images and tokens.
    """

    name: str
    image_size: int
    context_length: int
    content_hash: str
    splits: Mapping[str, SplitMeta]
    vocabulary: tuple[int, ...]
    classes: tuple[str, ...] = ()
    prompts: tuple[str, ...] = ()
    source: Mapping[str, Any] = field(default_factory=dict)
    features: int = 0


class Split:
    """One memory-mapped split.

    Attributes:
        tokens: uint16, shape (captions, context_length): all captions in the order of the images.
        offsets: int64, shape (images + 1,): captions of image i are rows ``offsets[i]:offsets[i + 1]``.
        labels: int64, shape (images,), or None without labels.
        shape: Of an image: (side, side, 3).
        image_bytes: Of an image.
        large: Whether its images are more than ``LARGE`` bytes. Of a large split a small multiple of ``WINDOW`` bytes
            is resident, however much is read.
    """

    def __init__(self, path: Path, meta: StoreMeta) -> None:
        with path.open("rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        table = pa.ipc.open_file(pa.py_buffer(self._map)).read_all()
        self.shape = (2 * meta.features,) if meta.features else (meta.image_size, meta.image_size, 3)
        self._images = [_bytes_view(chunk) for chunk in table["image"].chunks]  # zero-copy
        self._starts = np.cumsum([0, *(len(view) for view in self._images)])
        self._ids = table["id"]
        self._captions = table["captions"]
        # Tokens are small beside the images: one array, copied when the file has several batches.
        parts = [_bytes_view(chunk.flatten()) for chunk in table["tokens"].chunks]
        self.tokens: npt.NDArray[np.uint16] = _joined(parts).view(np.uint16)
        counts = [np.diff(chunk.offsets.to_numpy()) for chunk in table["tokens"].chunks]
        self.offsets: npt.NDArray[np.int64] = np.cumsum(np.concatenate([[0], *counts]), dtype=np.int64)
        labels = table["label"]
        self.labels: npt.NDArray[np.int64] | None = None if labels.null_count else labels.to_numpy().astype(np.int64)
        self.image_bytes = int(np.prod(self.shape))
        self.large = len(self) * self.image_bytes > LARGE
        self._touched = 0
        self._let_go()

    def __len__(self) -> int:
        """Number of images."""
        return int(self._starts[-1])

    def gather(self, rows: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.uint8]:
        """Copies images out of the map.

        Args:
            rows: Indices, shape (n,).

        Returns:
            uint8, shape (n, side, side, 3); of a store of features, shape (n, 2 * features).
        """
        images = np.empty((len(rows), self.image_bytes), dtype=np.uint8)
        batch = np.searchsorted(self._starts, rows, side="right") - 1
        for index in np.unique(batch):
            chosen = batch == index
            images[chosen] = self._images[index][np.asarray(rows)[chosen] - self._starts[index]]
        self._touched += images.nbytes
        if self._touched >= WINDOW:
            self._let_go()
        return images.reshape(-1, *self.shape)

    def _let_go(self) -> None:
        """Takes the pages of a large split out of this process's memory; they come back where they are read again."""
        if self.large:
            self._map.madvise(mmap.MADV_DONTNEED)
            self._touched = 0

    @property
    def ids(self) -> list[str]:
        """One id per image."""
        return list(self._ids.to_pylist())

    def captions(self, row: int) -> list[str]:
        """The captions of an image."""
        return list(self._captions[row].as_py())


class Store:
    """A finished store.

    Attributes:
        path: Its folder.
        meta: What is in it.
    """

    def __init__(self, path: Path, meta: StoreMeta) -> None:
        self.path = path
        self.meta = meta

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
                "(--val-share of `gaptune data build` takes val from train)"
            )

    def split(self, name: str) -> Split:
        """Opens a split.

        Raises:
            UserError: There is no split of that name, or its file cannot be read.
        """
        if name not in self:
            raise UserError(f"{self.path} has no split {name!r}{did_you_mean(name, self.meta.splits)}")
        path = self.path / f"{name}.arrow"
        try:
            return Split(path, self.meta)
        except (pa.ArrowInvalid, OSError, ValueError) as fault:
            raise UserError(f"corrupt store: {path}: {str(fault).splitlines()[0]}") from None

    def verify(self) -> None:
        """Reads everything and compares it with what was written.

        Raises:
            UserError: A file has changed.
        """
        meta = self.meta
        if _content_hash(meta.splits, meta.classes, meta.prompts) != meta.content_hash:
            raise UserError(f"corrupt store: {self.path / META} has changed since it was built")
        for name, split in meta.splits.items():
            file = self.path / f"{name}.arrow"
            if _sha256(file) != split.sha256:
                raise UserError(f"corrupt store: {file} has changed since it was built")


def read_store(path: Path) -> Store:
    """Opens a store's folder.

    Raises:
        UserError: It is missing, unfinished, damaged or empty.
    """
    try:
        content = json.loads((path / META).read_text(encoding="utf-8"))
        if content.get("format") != FORMAT:
            found = content.get("format")
            raise UserError(f"{path / META} has format {found!r}; this gaptune reads {FORMAT}")
        content.setdefault("features", 0)  # stores that were built before there were any
        fields = {name: content[name] for name in StoreMeta.__dataclass_fields__}
        fields["splits"] = {name: SplitMeta(**split) for name, split in fields["splits"].items()}
        fields |= {name: tuple(fields[name]) for name in ("vocabulary", "classes", "prompts")}
        meta = StoreMeta(**fields)
        _check_meta(meta)
    except FileNotFoundError:
        what = "an unfinished build" if ".partial-" in path.name else "not a data store"
        if not path.exists():
            what = "no such store"
        raise UserError(f"{what}: {path} (expected a folder with {META}, or `scenes`)") from None
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as fault:
        raise UserError(f"corrupt store: {path / META}: {type(fault).__name__}: {fault}") from None
    for name, split in meta.splits.items():
        file = path / f"{name}.arrow"
        size = file.stat().st_size if file.exists() else -1
        if size != split.bytes:
            raise UserError(f"corrupt store: {file} has {max(size, 0)} bytes, expected {split.bytes}")
    _refuse_empty(path, meta.splits)
    return Store(path, meta)


def _check_meta(meta: StoreMeta) -> None:
    """Looks at the types and ranges of what ``store.json`` says: a damaged one can be JSON still.

    Raises:
        ValueError: Something in it cannot be.
    """
    sizes = {"image_size": meta.image_size, "context_length": meta.context_length}
    counts = {"features": meta.features}
    for name, split in meta.splits.items():
        counts |= {f"splits.{name}.{field}": getattr(split, field) for field in ("images", "captions", "bytes")}
    for least, numbers in ((1, sizes), (0, counts)):
        for name, number in numbers.items():
            if type(number) is not int or number < least:
                raise ValueError(f"{name} is {number!r}")
    texts = {"name": meta.name, "content_hash": meta.content_hash}
    texts |= {f"splits.{name}.sha256": split.sha256 for name, split in meta.splits.items()}
    texts |= {f"classes[{index}]": name for index, name in enumerate(meta.classes)}
    texts |= {f"prompts[{index}]": prompt for index, prompt in enumerate(meta.prompts)}
    for name, text in texts.items():
        if type(text) is not str:
            raise ValueError(f"{name} is {text!r}")
    if any(type(token) is not int or not 0 <= token < 2**16 for token in meta.vocabulary):
        raise ValueError("vocabulary is no list of token ids")
    if not isinstance(meta.source, dict):
        raise ValueError(f"source is {meta.source!r}")


class StoreWriter:
    """Builds a store; use it as a context manager, and call ``finish`` at the end.

    Leaving the context without ``finish`` (an exception, Ctrl-C) removes what was written.

    Args:
        out: The store's folder; it must not exist.
        image_size: Side of the images.
        context_length: Token ids per caption.
        features: Width of the features that stand in place of images and tokens; 0 for images and tokens.

    Raises:
        UserError: ``out`` exists.
    """

    def __init__(self, out: Path, image_size: int, context_length: int, *, features: int = 0) -> None:
        if out.exists():
            raise UserError(f"{out} exists; remove it or give another --out")
        self._out = out
        self._partial = out.with_name(f"{out.name}.partial-{os.getpid()}-{uuid.uuid4().hex[:8]}")
        self._image_size = image_size
        self._context_length = context_length
        self._features = features
        self._schema = pa.schema(
            {
                "id": pa.string(),
                "image": pa.binary(2 * features or image_size * image_size * 3),
                "tokens": pa.list_(pa.binary(2 * context_length)),
                "captions": pa.list_(pa.string()),
                "label": pa.int32(),
            }
        )
        self._counts: dict[str, list[int]] = {}
        self._files: dict[str, Any] = {}
        self._rows: dict[str, list[tuple[Any, ...]]] = {}
        self._vocabulary: set[int] = set()

    def __enter__(self) -> StoreWriter:
        """Makes the folder in which it is built.

        Raises:
            UserError: The folder cannot be made.
        """
        shutil.rmtree(self._partial, ignore_errors=True)
        try:
            self._partial.mkdir(parents=True)
        except OSError as fault:
            raise UserError(f"cannot write {self._out}: {fault}") from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Removes what is unfinished.

        Raises:
            UserError: The disk is full, or writing failed in another way.
        """
        try:
            for file in self._files.values():
                file.close()
        except OSError as failed:  # closing writes a footer, for which a full disk has no room either
            fault = fault or failed
        shutil.rmtree(self._partial, ignore_errors=True)
        if isinstance(fault, OSError):
            raise UserError(f"cannot write {self._out}: {str(fault).splitlines()[0]}") from None

    def add(
        self,
        split: str,
        image: npt.NDArray[np.uint8],
        captions: Sequence[str],
        tokens: npt.NDArray[np.uint16],
        *,
        id: str,
        label: int | None = None,
    ) -> None:
        """Adds an image with its captions.

        Args:
            split: Name of the split.
            image: uint8, shape (side, side, 3).
            captions: One text or more.
            tokens: uint16, shape (len(captions), context_length).
            id: A name for the image.
            label: Its class, if it has one.
        """
        if split not in self._files:
            self._files[split] = pa.ipc.new_file(str(self._partial / f"{split}.arrow"), self._schema)
            self._counts[split], self._rows[split] = [0, 0], []
        if split == "train" and not self._features:
            self._vocabulary.update(np.unique(tokens).tolist())
        row = (id, image.tobytes(), [ids.tobytes() for ids in tokens], list(captions), label)
        self._rows[split].append(row)
        self._counts[split][0] += 1
        self._counts[split][1] += len(captions)
        if len(self._rows[split]) == _ROWS:
            self._flush(split)

    def finish(
        self,
        *,
        name: str,
        source: Mapping[str, Any],
        classes: Sequence[str] = (),
        prompts: Sequence[str] = (),
        prompt_tokens: npt.NDArray[np.uint16] | None = None,
    ) -> Store:
        """Closes the files, writes ``store.json`` and gives the folder its name.

        Args:
            name: What people call it.
            source: How it was made.
            classes: Names of the classes.
            prompts: Templates for zero-shot classification.
            prompt_tokens: Tokens that classes and prompts need beside those of the captions.

        Raises:
            UserError: It has no images, or another process has built the same folder meanwhile.
        """
        splits = {}
        for split in sorted(self._files, key=lambda split: split != "train"):
            self._flush(split)
            self._files.pop(split).close()  # closing twice would write a second footer
            path = self._partial / f"{split}.arrow"
            images, captions = self._counts[split]
            splits[split] = SplitMeta(images, captions, bytes=path.stat().st_size, sha256=_sha256(path))
        _refuse_empty(self._out, splits)
        if prompt_tokens is not None:
            self._vocabulary.update(np.unique(prompt_tokens).tolist())
        meta = StoreMeta(
            name=name,
            image_size=self._image_size,
            context_length=self._context_length,
            content_hash=_content_hash(splits, classes, prompts),
            splits=splits,
            vocabulary=tuple(sorted(self._vocabulary - {0})),  # 0 pads
            classes=tuple(classes),
            prompts=tuple(prompts),
            source=dict(source),
            features=self._features,
        )
        with (self._partial / META).open("w", encoding="utf-8") as file:
            json.dump({"format": FORMAT, **asdict(meta)}, file, indent=1, ensure_ascii=False)
            file.flush()
            os.fsync(file.fileno())
        try:
            self._partial.rename(self._out)
        except OSError:
            raise UserError(f"{self._out} was made by another process meanwhile") from None
        return read_store(self._out)

    def _flush(self, split: str) -> None:
        rows, self._rows[split] = self._rows[split], []
        if rows:
            columns = zip(zip(*rows, strict=True), self._schema.types, strict=True)
            arrays = [pa.array(values, type_) for values, type_ in columns]
            self._files[split].write_batch(pa.record_batch(arrays, schema=self._schema))


def _refuse_empty(path: Path, splits: Mapping[str, SplitMeta]) -> None:
    if not splits:
        raise UserError(f"empty data: {path} has no images")
    for name, split in splits.items():
        if not split.images:
            raise UserError(f"empty data: {path} has no {name} images")


def _bytes_view(array: Any) -> npt.NDArray[np.uint8]:
    """A fixed-size binary array as (rows, width) bytes, without a copy."""
    width = array.type.byte_width
    flat = np.frombuffer(array.buffers()[1], dtype=np.uint8)
    return flat[array.offset * width : (array.offset + len(array)) * width].reshape(len(array), width)


def _joined(parts: list[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _content_hash(splits: Mapping[str, SplitMeta], classes: Sequence[str], prompts: Sequence[str]) -> str:
    content = {
        "splits": {name: split.sha256 for name, split in splits.items()},
        "classes": list(classes),
        "prompts": list(prompts),
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
