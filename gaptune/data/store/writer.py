"""Writing stores: in another folder than asked for, which gets its name when the store is whole."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from gaptune.data.store.columns import FeatureMeta, columns_of
from gaptune.data.store.content import NO_LABEL, Content
from gaptune.data.store.meta import (
    FORMAT,
    META,
    PROMPT_FEATURES,
    FileMeta,
    SplitMeta,
    StoreMeta,
    content_hash_of,
    refuse_empty,
    sha256_of,
    storable,
)
from gaptune.data.store.reader import Store, read_store
from gaptune.errors import UserError, first_line

_ROWS = 1024  # images per record batch: gathers touch few batches, builds hold few images


@dataclass(slots=True)
class _Row:
    """An image that is not written yet; its arrays are as ``Column.to_arrow`` makes them."""

    id: str
    image: Any
    texts: list[Any]
    captions: list[str]
    label: int | None

    def extend(
        self, captions: Sequence[str], texts: Iterable[Any], label: int | None = None, *, again: bool = False
    ) -> int:
        """Adds captions, those that it has only where ``again`` says so; returns how many it added."""
        before = len(self.captions)
        for caption, text in zip(map(storable, captions), texts, strict=True):
            if again or caption not in self.captions:
                self.captions.append(caption)
                self.texts.append(text)
        self.label = label if self.label is None else self.label
        return len(self.captions) - before

    def values(self) -> tuple[Any, ...]:
        """In the order of the file's columns."""
        return self.id, self.image, self.texts, self.captions, self.label


class _Later:
    """Captions that came when their image was written already, in a file.

    Args:
        path: The file.
    """

    SCHEMA = pa.schema(
        {
            "row": pa.int64(),
            "captions": pa.list_(pa.string()),
            "tokens": pa.list_(pa.binary()),
            "label": pa.int32(),
        }
    )

    def __init__(self, path: Path) -> None:
        self._file = pa.ipc.new_file(str(path), self.SCHEMA)
        self._rows: list[tuple[Any, ...]] = []

    def add(self, row: int, captions: Sequence[str], tokens: Sequence[bytes], label: int | None) -> None:
        """Adds captions of an image."""
        self._rows.append((row, list(map(storable, captions)), tokens, label))
        if len(self._rows) == _ROWS:
            self._flush()

    def close(self) -> None:
        """Writes what is left."""
        self._flush()
        self._file.close()

    def _flush(self) -> None:
        if self._rows:
            self._file.write_batch(_record_batch(self._rows, self.SCHEMA))
            self._rows = []


class StoreWriter:
    """Builds a store; use it as a context manager, and call ``finish`` at the end.

    Leaving the context without ``finish`` (an exception, Ctrl-C) removes what was written.

    Args:
        out: The store's folder; it must not exist.
        image_size: Side of the images.
        context_length: Token ids per caption.
        features: Sizes of the features that are stored in place of images and tokens; None for images and tokens.

    Attributes:
        features: As given.

    Raises:
        UserError: ``out`` exists.
    """

    def __init__(
        self, out: Path, image_size: int = 0, context_length: int = 0, *, features: FeatureMeta | None = None
    ) -> None:
        if out.exists():
            raise UserError(f"{out} exists; remove it or give another --out")
        self._out = out
        self._partial = out.with_name(f"{out.name}.partial-{os.getpid()}-{uuid.uuid4().hex[:8]}")
        self._image_size = image_size
        self._context_length = context_length
        self.features = features
        self._image, self._text = columns_of(image_size, context_length, features)
        self._schema = pa.schema(
            {
                "id": pa.string(),
                self._image.name: self._image.type,
                self._text.name: pa.list_(self._text.type),
                "captions": pa.list_(pa.string()),
                "label": pa.int32(),
            }
        )
        self._counts: dict[str, list[int]] = {}
        self._files: dict[str, Any] = {}
        self._rows: dict[str, list[_Row]] = {}
        self._later: dict[str, _Later] = {}
        self._contents: dict[str, Content] = {}
        self._vocabulary: set[int] = set()

    def __enter__(self) -> StoreWriter:
        """Makes the folder in which it is built.

        Raises:
            UserError: The folder cannot be made.
        """
        shutil.rmtree(self._partial, ignore_errors=True)
        try:
            self._partial.mkdir(parents=True)
        except OSError as error:
            raise UserError(f"cannot write {self._out}: {error}") from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Removes what is unfinished.

        Raises:
            UserError: The disk is full, or writing failed in another way.
        """
        try:
            for file in (*self._files.values(), *self._later.values()):
                file.close()
        except OSError as failed:  # closing writes a footer, which fails on a full disk too
            error = error or failed
        shutil.rmtree(self._partial, ignore_errors=True)
        if isinstance(error, OSError):
            raise UserError(f"cannot write {self._out}: {first_line(error)}") from None

    def add(
        self,
        split: str,
        image: npt.NDArray[Any],
        captions: Sequence[str],
        texts: npt.NDArray[Any],
        *,
        id: str,
        label: int | None = None,
    ) -> int:
        """Adds an image with its captions.

        Args:
            split: Name of the split.
            image: uint8, shape (side, side, 3); in a store of features, shape (width,).
            captions: One text or more; in a store of features, a labeled image may have none.
            texts: Tokens of the captions, uint16, shape (len(captions), context_length); in a store of features, shape
                (len(captions), width).
            id: Name of the image.
            label: Class of the image, if it has one.

        Returns:
            Its row in the split.
        """
        if split not in self._files:
            self._files[split] = pa.ipc.new_file(str(self._partial / f"{split}.arrow"), self._schema)
            self._counts[split], self._rows[split] = [0, 0], []
            self._contents[split] = Content()
        self._note(split, texts)
        row = _Row(storable(id), self._image.to_arrow(image), [], [], label)
        row.extend(captions, map(self._text.to_arrow, texts), again=True)
        self._rows[split].append(row)
        self._counts[split][0] += 1
        self._counts[split][1] += len(captions)
        if len(self._rows[split]) == _ROWS:
            self._flush(split)
        return self._counts[split][0] - 1

    def extend(
        self,
        split: str,
        row: int,
        captions: Sequence[str],
        tokens: npt.NDArray[np.uint16],
        *,
        label: int | None = None,
    ) -> None:
        """Adds captions to an image that has been added; those that it has already are not added again.

        Where the image has been written already, they are kept in a file, and ``finish`` writes the split once more.

        Args:
            split: Name of the split; the store must hold images.
            row: Row of the image, as ``add`` returned it.
            captions: Texts.
            tokens: uint16, shape (len(captions), context_length).
            label: Class of the image, if it has none yet.
        """
        self._note(split, tokens)
        ids = [each.tobytes() for each in tokens]
        first = self._counts[split][0] - len(self._rows[split])
        if row >= first:
            self._counts[split][1] += self._rows[split][row - first].extend(captions, ids, label)
            return
        if split not in self._later:
            self._later[split] = _Later(self._partial / f"{split}.later")
        self._later[split].add(row, captions, ids, label)

    def _note(self, split: str, texts: npt.NDArray[Any]) -> None:
        if split == "train" and self.features is None:
            self._vocabulary.update(np.unique(texts).tolist())

    def finish(
        self,
        *,
        name: str,
        source: Mapping[str, Any],
        classes: Sequence[str] = (),
        prompts: Sequence[str] = (),
        prompt_tokens: npt.NDArray[np.uint16] | None = None,
        prompt_features: npt.NDArray[Any] | None = None,
    ) -> Store:
        """Closes the files, writes ``store.json`` and gives the folder its name.

        Args:
            name: Name for people.
            source: Origin, for ``store.json``.
            classes: Names of the classes.
            prompts: Templates for zero-shot classification.
            prompt_tokens: Tokens that classes and prompts need beside those of the captions.
            prompt_features: In a store of features, those of the class prompts, shape (classes, templates, text width).
                Without ``prompts`` the templates become ``prompt 1``, ``prompt 2``, and so on.

        Raises:
            UserError: It has no images, or another process has built the same folder meanwhile.
            ValueError: The features of the prompts have another shape.
        """
        classes, prompts = tuple(map(storable, classes)), tuple(map(storable, prompts))
        if prompt_features is not None:
            prompts = prompts or tuple(f"prompt {number + 1}" for number in range(prompt_features.shape[1]))
        prompt_file = self._write_prompts(prompt_features, len(classes), len(prompts))
        splits = {}
        for split in sorted(self._files, key=lambda split: split != "train"):
            self._flush(split)
            self._files.pop(split).close()  # closing twice would write a second footer
            path = self._partial / f"{split}.arrow"
            if split in self._later:
                self._later.pop(split).close()
                self._counts[split][1] += _merge_later(path, path.with_suffix(".later"), self._schema)
            images, captions = self._counts[split]
            content = self._contents[split].hexdigest() if self.features else ""
            splits[split] = SplitMeta(images, captions, path.stat().st_size, sha256_of(path), content)
        refuse_empty(self._out, splits)
        if prompt_tokens is not None:
            self._vocabulary.update(np.unique(prompt_tokens).tolist())
        meta = StoreMeta(
            name=name,
            image_size=self._image_size,
            context_length=self._context_length,
            content_hash=content_hash_of(splits, classes, prompts, prompt_file),
            splits=splits,
            vocabulary=tuple(sorted(self._vocabulary - {0})),  # 0 pads
            classes=classes,
            prompts=prompts,
            source=dict(source),
            features=self.features,
            prompt_features=prompt_file,
        )
        with (self._partial / META).open("w", encoding="utf-8") as file:
            file.write(storable(json.dumps({"format": FORMAT, **asdict(meta)}, indent=1, ensure_ascii=False)))
            file.flush()
            os.fsync(file.fileno())
        try:
            self._partial.rename(self._out)
        except OSError:
            raise UserError(f"{self._out} was made by another process meanwhile") from None
        return read_store(self._out)

    def _flush(self, split: str) -> None:
        rows, self._rows[split] = self._rows[split], []
        if not rows:
            return
        if self.features:
            self._contents[split].update(
                np.stack([row.image for row in rows]),
                np.array([text for row in rows for text in row.texts], dtype=self._text.dtype),
                np.array([len(row.texts) for row in rows], dtype=np.int64),
                np.array([NO_LABEL if row.label is None else row.label for row in rows], dtype=np.int64),
            )
        self._files[split].write_batch(_record_batch(map(_Row.values, rows), self._schema))

    def _write_prompts(self, features: npt.NDArray[Any] | None, classes: int, prompts: int) -> FileMeta | None:
        """Writes the features of class prompts into their file; see ``finish``."""
        if features is None:
            return None
        assert self.features is not None, "only a store of features holds features of prompts"
        if features.shape != (shape := (classes, prompts, self.features.text)):
            raise ValueError(f"the features of prompts have the shape {features.shape}, expected {shape}")
        path = self._partial / PROMPT_FEATURES
        np.save(path, np.ascontiguousarray(features, dtype=self.features.dtype))
        return FileMeta(path.stat().st_size, sha256_of(path))


def _record_batch(rows: Iterable[tuple[Any, ...]], schema: pa.Schema) -> pa.RecordBatch:
    columns = zip(zip(*rows, strict=True), schema.types, strict=True)
    return pa.record_batch([pa.array(values, type_) for values, type_ in columns], schema=schema)


def _merge_later(path: Path, later: Path, schema: pa.Schema) -> int:
    """Writes a split once more with the captions that came later; returns how many were added.

    A batch is in memory at a time, and of the captions their rows.
    """
    added = 0
    with pa.memory_map(str(later)) as mapped, path.with_suffix(".merged").open("wb") as out:
        table = pa.ipc.open_file(mapped).read_all()
        rows = table["row"].to_numpy()
        order = np.argsort(rows, kind="stable")  # those of one image stay in their order
        with pa.OSFile(str(path)) as file, pa.ipc.new_file(out, schema) as merged:
            old = pa.ipc.open_file(file)
            first = 0
            for number in range(old.num_record_batches):
                batch = old.get_batch(number)
                low, high = np.searchsorted(rows, [first, first + len(batch)], sorter=order)
                if low < high:
                    batch, more = _extended(batch, table.take(pa.array(order[low:high])), first, schema)
                    added += more
                merged.write_batch(batch)
                first += len(batch)
        del table
    later.unlink()
    path.with_suffix(".merged").replace(path)
    return added


def _extended(batch: pa.RecordBatch, later: pa.Table, first: int, schema: pa.Schema) -> tuple[pa.RecordBatch, int]:
    """A batch with more captions; ``first`` is its first row in the split."""
    rows = [
        _Row("", b"", *values)
        for values in zip(*(batch[name].to_pylist() for name in ("tokens", "captions", "label")), strict=True)
    ]
    added = 0
    for each in later.to_pylist():
        added += rows[each["row"] - first].extend(each["captions"], each["tokens"], each["label"])
    text = pa.schema([field for field in schema if field.name not in ("id", "image")])
    made = _record_batch((row.values()[2:] for row in rows), text)
    return pa.record_batch([batch["id"], batch["image"], *made.columns], schema=schema), added
