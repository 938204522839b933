"""CSV and Parquet files with a row for each image."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.dataset as ds

from gaptune.data.sources.base import Sample, Source
from gaptune.data.sources.labels import read_class_names, read_prompts
from gaptune.data.sources.patterns import files_by_split
from gaptune.data.sources.splits import split_in_column
from gaptune.errors import UserError, did_you_mean

FORMATS = {"csv": ".csv", "parquet": ".parquet"}
_AT_ONCE = 256  # rows read at a time: they may hold images


@dataclass(frozen=True)
class Columns:
    """What the columns of a table are called; the defaults are open_clip's.

    Attributes:
        image: Paths, relative to the table's folder; or, in Parquet, the bytes of image files, or Hugging Face's
            struct of both.
        captions: Texts; in Parquet, lists of texts too.
        id: A name for each image; None for its path, or its number.
        split: The split of each image; None for the split of its file.
        label: Class names, or indices into ``classnames.txt`` beside the table; None without labels.
    """

    image: str = "filepath"
    captions: tuple[str, ...] = ("title",)
    id: str | None = None
    split: str | None = None
    label: str | None = None

    def names(self) -> list[str]:
        """All of them that are asked for."""
        return [name for name in (self.image, *self.captions, self.id, self.split, self.label) if name is not None]


class Table(Source):
    """Rows of CSV or Parquet files.

    A CSV file is in UTF-8, has a header, and is separated by tabs if its header has one (open_clip's form), else by
    commas.

    Args:
        form: ``csv`` or ``parquet``.
        files: Files by split, in their order.
        columns: What the columns are called.

    Raises:
        UserError: A file cannot be read, or a column is missing.
    """

    def __init__(self, form: str, files: Mapping[str, Sequence[Path]], columns: Columns) -> None:
        self.kind = form
        self._columns = columns
        self._files = files
        self._rows: dict[str, tuple[ds.Dataset, Any]] = {}  # with a filter
        for split, parts in files.items():
            table = _opened(form, parts, columns)
            if columns.split is None:
                self._rows[split] = table, None
                continue
            for name in _distinct(table, columns.split):
                where = ds.field(columns.split) == name
                self._rows[split_in_column(name) or "train"] = table, where
        self.splits = tuple(self._rows)
        if columns.label is not None:
            folder = next(iter(files.values()))[0].parent
            labels = {label for table, _ in self._rows.values() for label in _distinct(table, columns.label)}
            self.classes = _classes(labels, folder)
            self.prompts = read_prompts(folder)

    @classmethod
    def at(cls, form: str, place: str) -> Table:
        """The source that ``csv:FILE`` or ``parquet:FILE?image=file&caption=one&caption=two`` means.

        Raises:
            UserError: What stands after the ``?`` names no column.
        """
        place, _, query = place.partition("?")
        given: dict[str, list[str]] = {}
        for name, value in parse_qsl(query, keep_blank_values=True):
            if name not in (known := ("image", "caption", "id", "split", "label")):
                raise UserError(f"{form}:…?{query}: there is no column for {name!r}{did_you_mean(name, known)}")
            given.setdefault(name, []).append(value)
        captions = tuple(given.pop("caption", Columns.captions))
        return cls.of(form, [place], Columns(captions=captions, **{name: values[-1] for name, values in given.items()}))

    @classmethod
    def of(cls, form: str, places: Sequence[str], columns: Columns) -> Table:
        """From places such as ``FILE``, ``SPLIT=FILE`` or a pattern."""
        files = files_by_split(places, FORMATS[form])
        if columns.split is not None and len(files) > 1:
            raise UserError(f"both the files and the column {columns.split!r} say the split; give one of them")
        return cls(form, files, columns)

    def samples(self, split: str) -> Iterator[Sample]:
        """Rows in the order of the files."""
        columns = self._columns
        folder = next(iter(self._files.values()))[0].parent
        numbers = {name: index for index, name in enumerate(self.classes)}
        for row, values in enumerate(self._read(split)):
            image, path = _image(values[columns.image], folder)
            label = None if columns.label is None else values[columns.label]
            yield Sample(
                id=str(values[columns.id]) if columns.id else path or f"{split}-{row:08d}",
                image=image,
                captions=tuple(text for name in columns.captions for text in _texts(values[name])),
                label=label if label is None or isinstance(label, int) else numbers[label],
            )

    def count(self, split: str) -> int | None:
        """How many rows a split has; not known of a CSV file before it is read."""
        table, where = self._rows[split]
        return None if self.kind == "csv" else int(table.count_rows(filter=where))

    def files(self) -> Iterable[Path]:
        """The tables, and the images that they name."""
        for parts in self._files.values():
            yield from parts
        folder = next(iter(self._files.values()))[0].parent
        for table, where in self._rows.values():
            if pa.types.is_string(table.schema.field(self._columns.image).type):
                for batch in table.to_batches(columns=[self._columns.image], filter=where):
                    yield from (folder / path for path in batch.column(0).to_pylist() if path)

    def origin(self) -> dict[str, Any]:
        """The files, and what their columns are called."""
        named = {name: value for name, value in vars(self._columns).items() if value is not None}
        return {
            "files": {split: ", ".join(str(file) for file in files) for split, files in self._files.items()},
            "columns": named | {"captions": list(self._columns.captions)},
        }

    def _read(self, split: str) -> Iterator[dict[str, Any]]:
        table, where = self._rows[split]
        names = list(dict.fromkeys(self._columns.names()))
        try:
            for batch in table.to_batches(columns=names, filter=where, batch_size=_AT_ONCE, batch_readahead=1):
                yield from batch.to_pylist()
        except (pa.ArrowException, OSError) as fault:
            raise UserError(f"{table.files[0]}: {str(fault).splitlines()[0]}") from None


def _opened(form: str, files: Sequence[Path], columns: Columns) -> ds.Dataset:
    try:
        table = ds.dataset([str(file) for file in files], format=_csv(files[0], columns) if form == "csv" else form)
        names = table.schema.names
    except (pa.ArrowException, OSError, UnicodeDecodeError) as fault:
        raise UserError(f"cannot be read as {form}: {str(fault).splitlines()[0]}", file=files[0]) from None
    for name in columns.names():
        if name not in names:
            raise UserError(f"there is no column {name!r}{did_you_mean(name, names)}", file=files[0])
    return table


def _csv(file: Path, columns: Columns) -> ds.CsvFileFormat:
    with file.open(encoding="utf-8") as lines:
        separator = "\t" if "\t" in lines.readline() else ","
    return ds.CsvFileFormat(
        parse_options=pyarrow.csv.ParseOptions(delimiter=separator, newlines_in_values=True),
        convert_options=pyarrow.csv.ConvertOptions(column_types={name: pa.string() for name in columns.names()}),
    )


def _distinct(table: ds.Dataset, column: str) -> list[Any]:
    found: dict[Any, None] = {}
    for batch in table.to_batches(columns=[column]):
        found.update(dict.fromkeys(batch.column(0).unique().to_pylist()))
    found.pop(None, None)
    if not found:
        raise UserError(f"the column {column!r} is empty", file=table.files[0])
    return list(found)


def _classes(labels: set[Any], folder: Path) -> tuple[str, ...]:
    """Class names: those of ``classnames.txt`` for indices, else the sorted labels themselves."""
    if not all(isinstance(label, int) for label in labels):
        return tuple(sorted(str(label) for label in labels))
    names = read_class_names(folder) or tuple(str(number) for number in range(max(labels) + 1))
    if min(labels) < 0 or max(labels) >= len(names):
        raise UserError(f"labels go from {min(labels)} to {max(labels)}, but there are {len(names)} classes")
    return names


def _image(value: Any, folder: Path) -> tuple[Path | bytes, str]:
    """What an image is read from, and its path, if it has one. Nothing counts as a missing image."""
    if isinstance(value, Mapping):  # Hugging Face's Image
        content, path = value.get("bytes"), value.get("path") or ""
        return (content, path) if content is not None else (folder / path, path)
    if isinstance(value, bytes):
        return value, ""
    return (folder / value, value) if value else (b"", "")


def _texts(value: Any) -> list[str]:
    if value is None:
        return []
    return [str(text) for text in value] if isinstance(value, list | np.ndarray) else [str(value)]
