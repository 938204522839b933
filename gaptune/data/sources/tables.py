"""CSV, JSON Lines and Parquet files with a row for each image, or for each caption of one."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self, TypeVar
from urllib.parse import parse_qsl

from gaptune.data.images import UnreadableError
from gaptune.data.sources.base import Sample, Source
from gaptune.data.sources.captions import caption_texts
from gaptune.data.sources.cells import check_types, image_of, name_of
from gaptune.data.sources.labels import (
    CLASS_NAMES,
    TEMPLATES,
    Classes,
    Label,
    normal_label,
    read_class_names,
    read_prompts,
)
from gaptune.data.sources.parquet import ParquetFile
from gaptune.data.sources.patterns import found_files
from gaptune.data.sources.rows import CsvFile, JsonlFile, Row, check_columns
from gaptune.data.sources.splits import by_split, folder_split, split_in_column
from gaptune.errors import UserError, did_you_mean

_NAMED = 5  # rows in an error
_NO_CLASS = -1  # what Hugging Face's ClassLabel has where labels are not published


@dataclass(frozen=True)
class Columns:
    """Names of the columns of a table; the defaults are open_clip's.

    Attributes:
        image: Paths, relative to the folder of the table that names them; or images in base64; or, in Parquet, the
            bytes of image files, or Hugging Face's struct of both.
        captions: Texts, or lists of texts. They may be lacking where there are labels.
        id: A name for each image; None for its path, or its number.
        split: The split of each row; None for the split of its file.
        label: Class names, or indices into ``classnames.txt`` beside the table; None without labels.
    """

    image: str = "filepath"
    captions: tuple[str, ...] = ("title",)
    id: str | None = None
    split: str | None = None
    label: str | None = None

    def names(self) -> list[str]:
        """All of them that are asked for, each once."""
        asked = (self.image, *self.captions, self.id, self.split, self.label)
        return list(dict.fromkeys(name for name in asked if name is not None))


_Parsed = TypeVar("_Parsed")
_File = CsvFile | JsonlFile | ParquetFile


@dataclass
class _Part:
    """A file of a table.

    Attributes:
        table: The file.
        rows: Number of rows by split.
        labels: Those that occur.
        splits: For a Parquet file with a column of splits, the index in ``rows`` of each row's split, so that images of
            other splits need not be read.
    """

    table: _File
    rows: Counter[str]
    labels: set[Label]
    splits: bytes = b""


class Table(Source):
    """Rows of CSV, JSON Lines or Parquet files.

    All of it but Parquet's captions and images is checked when it is opened: columns, their types, splits, labels.

    Args:
        files: Files by split, in their order.
        columns: Names of the columns.
        outside: Whether images may lie outside the folder of the table that names them.

    Raises:
        UserError: A file cannot be read, a column is missing or of another type, or a row has no split.
    """

    endings: tuple[str, ...]
    """Endings of the files in a folder."""

    def __init__(self, files: Mapping[str, Sequence[Path]], columns: Columns, *, outside: bool = False) -> None:
        self._outside = outside
        self._files = files
        tables = [(split, self._opened(file, columns)) for split, parts in files.items() for file in parts]
        self._columns = columns = _present([table for _, table in tables], columns)
        self._parts = [self._read_through(table, split) for split, table in tables]
        self.splits = tuple(dict.fromkeys(split for part in self._parts for split in part.rows))
        for split, parts in files.items():
            if not any(part.rows for part in self._parts if part.table.file in parts):
                raise UserError(f"has no rows, and so the split {split!r} is empty", file=parts[0])
        self._beside: list[Path] = []
        if columns.label is not None:
            self._beside = _beside([table.file for _, table in tables])
            self._classes = _classes(self._parts, columns.label, self._beside)
            self.classes = self._classes.names
            templates = [file.parent for file in self._beside if file.name == TEMPLATES]
            self.prompts = read_prompts(templates[0] if templates else tables[0][1].file.parent)

    @staticmethod
    @abstractmethod
    def _opened(file: Path, columns: Columns) -> _File:
        """One of its files."""

    @classmethod
    def at(cls, place: str) -> Self:
        """The source that ``csv:FILE`` or ``parquet:FILE?image=file&caption=one&caption=two`` means.

        Raises:
            UserError: The part after the ``?`` names no column.
        """
        place, _, query = (place, "", "") if Path(place).exists() else place.partition("?")
        given: dict[str, list[str]] = {}
        for name, value in parse_qsl(query, keep_blank_values=True):
            if name not in (known := ("image", "caption", "id", "split", "label")):
                raise UserError(f"{cls.kind}:…?{query}: there is no column for {name!r}{did_you_mean(name, known)}")
            given.setdefault(name, []).append(value)
        captions = tuple(given.pop("caption", Columns.captions))
        return cls.of([place], Columns(captions=captions, **{name: values[-1] for name, values in given.items()}))

    @classmethod
    def of(cls, places: Sequence[str], columns: Columns, *, outside: bool = False) -> Self:
        """From places such as ``FILE``, ``SPLIT=FILE`` or a pattern."""
        found = found_files(places, *cls.endings)
        if columns.split is None:
            return cls(by_split(found), columns, outside=outside)
        if any(given for _, given in found):
            raise UserError(f"both SPLIT=FILE and the column {columns.split!r} say the split; give one of them")
        try:
            files = by_split(found)
        except UserError:  # what the names say is unclear, and so the column alone counts
            files = {"train": [file for file, _ in found]}
        return cls(files, columns, outside=outside)

    def samples(self, split: str) -> Iterator[Sample]:
        """Rows in the order of the files."""
        columns = self._columns
        row = 0
        for part in self._parts:
            for number, values in self._rows(part, split):
                cell = _Cell(part.table, number, values)
                image, path = cell.image(columns.image, outside=self._outside)
                name = cell.read(columns.id, name_of) if columns.id else ""
                captions = tuple(text for each in columns.captions for text in cell.read(each, caption_texts))
                label = cell.read(columns.label, self._index) if columns.label else None
                yield Sample(name or path or f"{split}-{row:08d}", image, captions, label)
                row += 1

    def count(self, split: str) -> int:
        """How many rows a split has."""
        return sum(part.rows[split] for part in self._parts)

    def files(self) -> Iterable[Path]:
        """The tables, the texts beside them, and the images that they name."""
        yield from (part.table.file for part in self._parts)
        yield from self._beside
        column = self._columns.image
        for part in self._parts:
            if isinstance(part.table, ParquetFile) and not part.table.holds_text(column):
                continue
            for number, values in part.table.rows([column]):
                image, _ = _Cell(part.table, number, values).image(column, outside=self._outside)
                if isinstance(image, Path):
                    yield image

    def origin(self) -> dict[str, Any]:
        """The files, and the names of their columns."""
        named = {name: value for name, value in vars(self._columns).items() if value is not None}
        return {
            "files": {split: ", ".join(str(file) for file in files) for split, files in self._files.items()},
            "columns": named | {"captions": list(self._columns.captions)},
        }

    def _index(self, value: object) -> int | None:
        return self._classes.index(normal_label(value))

    def _rows(self, part: _Part, split: str) -> Iterator[tuple[int, Row]]:
        names = self._columns.names()
        if len(part.rows) == 1:
            yield from part.table.rows(names) if split in part.rows else ()
        elif isinstance(part.table, ParquetFile):
            code = list(part.rows).index(split) if split in part.rows else -1
            yield from part.table.rows(names, lambda number: part.splits[number - 1] == code)
        else:
            for number, values in part.table.rows(names):
                if split_in_column(values[self._columns.split or ""]) == split:
                    yield number, values

    def _read_through(self, table: _File, split: str) -> _Part:
        """Checks what can be checked before an hour of building."""
        columns = self._columns
        part = _Part(table, Counter(), set())
        codes, without = bytearray(), list[int]()
        for number, values in table.rows(_checked_now(table, columns)):
            cell = _Cell(table, number, values)
            name = cell.read(columns.split, split_in_column) if columns.split else split
            if name is None:
                without.append(number)
                continue
            if len(self._files) > 1 and name != split:
                where = table.place(number)
                raise UserError(f"{where}: {columns.split!r} says {name!r}, the file {split!r}", file=table.file)
            part.rows[name] += 1
            if columns.label:
                part.labels.add(cell.read(columns.label, normal_label))
            if isinstance(table, ParquetFile):
                codes.append(list(part.rows).index(name))
            else:
                cell.image(columns.image, outside=self._outside)
            for each in columns.captions:
                if each in values:
                    cell.read(each, caption_texts)
        if without:
            raise UserError(f"{_listed(table, without)} no split in the column {columns.split!r}", file=table.file)
        part.splits = bytes(codes)
        return part


class Csv(Table):
    """CSV files with a header, separated by commas or tabs."""

    kind = "csv"
    endings = (".csv", ".tsv")

    @staticmethod
    def _opened(file: Path, columns: Columns) -> CsvFile:
        return CsvFile(file, columns.image)


class Jsonl(Table):
    """JSON Lines files, with an object per line."""

    kind = "jsonl"
    endings = (".jsonl", ".ndjson")

    @staticmethod
    def _opened(file: Path, columns: Columns) -> JsonlFile:
        return JsonlFile(file)


class Parquet(Table):
    """Parquet files."""

    kind = "parquet"
    endings = (".parquet",)

    @staticmethod
    def _opened(file: Path, columns: Columns) -> ParquetFile:
        return ParquetFile(file)


def _present(tables: Sequence[_File], columns: Columns) -> Columns:
    """The columns that there are: all that are asked for, but of labeled images the captions may be lacking."""
    if columns.label is not None and columns.captions == Columns.captions:
        lacking = [table for table in tables if columns.captions[0] not in table.names]
        columns = replace(columns, captions=()) if len(lacking) == len(tables) else columns
    for table in tables:
        check_columns(table.file, table.names, columns.names())
        if isinstance(table, ParquetFile):
            check_types(table, columns)
    return columns


def _checked_now(table: _File, columns: Columns) -> list[str]:
    """Columns that are read when a table is opened: of Parquet those that hold neither images nor texts."""
    if not isinstance(table, ParquetFile):
        return columns.names()
    floats = [name for name in columns.captions if table.holds_floats(name)]
    return [name for name in dict.fromkeys((columns.split, columns.label, *floats)) if name is not None]


def _beside(tables: Iterable[Path]) -> list[Path]:
    """Class names and templates beside the tables; above them, too, where the folder is that of a split."""
    folders = dict.fromkeys(table.parent for table in tables)
    above = dict.fromkeys(folder.parent for folder in folders if folder_split(folder.name))
    files = [folder / name for folder in folders | above for name in (CLASS_NAMES, TEMPLATES)]
    return [file for file in files if file.exists()]


def _classes(parts: Sequence[_Part], column: str, beside: Sequence[Path]) -> Classes:
    """The classes: those of ``classnames.txt``, else of the schema, else of the labels themselves."""
    given: list[tuple[str, tuple[str, ...]]] = [
        (str(file), read_class_names(file.parent) or ()) for file in beside if file.name == CLASS_NAMES
    ]
    tables = [part.table for part in parts if isinstance(part.table, ParquetFile)]
    schemas = [(str(table.file), names) for table in tables if (names := table.class_names(column))]
    given = given or schemas
    for origin, names in given[1:]:
        if names != given[0][1]:
            raise UserError(f"{origin} has other class names than {given[0][0]}")
    labels = {label for part in parts for label in part.labels}
    if not given:
        return Classes.of_labels(labels, f"the column {column!r}")
    classes = Classes(given[0][1], given[0][0], _NO_CLASS if schemas else None)
    for part in parts:
        for label in part.labels:
            try:
                classes.index(label)
            except UserError as error:
                raise UserError(f"the column {column!r}: {error.message}", file=part.table.file) from None
    return classes


def _listed(table: _File, numbers: Sequence[int]) -> str:
    if len(numbers) == 1:
        return f"{table.place(numbers[0])} has"
    kind, _, _ = table.place(0).partition(" ")
    others = f" and {len(numbers) - _NAMED} more" if len(numbers) > _NAMED else ""
    return f"{kind}s {', '.join(map(str, numbers[:_NAMED]))}{others} have"


@dataclass(frozen=True, slots=True)
class _Cell:
    """Values of a row, which say their place where they are wrong."""

    table: _File
    number: int
    values: Row

    def read(self, column: str, parse: Callable[[object], _Parsed]) -> _Parsed:
        """The value of a column as ``parse`` makes it."""
        try:
            return parse(self.values[column])
        except UserError as error:
            where = f"{self.table.place(self.number)}: the column {column!r}: "
            raise UserError(f"{where}{error.message}", file=self.table.file) from None

    def image(self, column: str, *, outside: bool) -> tuple[Path | bytes | UnreadableError, str]:
        """The image of a column, with its path; see ``image_of``."""
        folder = self.table.file.parent
        return self.read(column, lambda value: image_of(value, folder, outside=outside))
