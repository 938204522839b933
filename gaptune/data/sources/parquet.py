"""Rows of Parquet files, read a few at a time: they may hold images."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from gaptune.data.sources.rows import Row
from gaptune.errors import UserError, first_line

_WITH_IMAGES, _WITHOUT = 16, 4096  # rows read at a time, at most
_BYTES_AT_ONCE = 1 << 24  # of them, about: texts may hold images, too
_BUFFER = 1 << 20  # bytes of a column that are fetched at a time; without, all of a row group is

_TEXTS = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
_BYTES = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view, pa.types.is_fixed_size_binary)
_LISTS = (
    pa.types.is_list,
    pa.types.is_large_list,
    pa.types.is_fixed_size_list,
    pa.types.is_list_view,
    pa.types.is_large_list_view,
)


class ParquetFile:
    """A Parquet file.

    Args:
        file: The file.

    Raises:
        UserError: It cannot be read as Parquet.
    """

    form = "parquet"

    def __init__(self, file: Path) -> None:
        self.file = file
        try:
            self._schema = pq.read_schema(file)
        except (pa.ArrowException, OSError) as error:
            raise self._error(error) from None
        self.names: Sequence[str] = self._schema.names

    def place(self, number: int) -> str:
        """Where a row stands."""
        return f"row {number}"

    def type_of(self, column: str) -> pa.DataType:
        """The type of a column's values, however they are encoded."""
        return plain(self._schema.field(column).type)

    def holds_floats(self, column: str) -> bool:
        """Whether a column has numbers with a point, or lists of them."""
        kind = self.type_of(column)
        return bool(pa.types.is_floating(items_of(kind) or kind))

    def holds_text(self, column: str) -> bool:
        """Whether a column has texts, or structs with a field of texts."""
        kind = self.type_of(column)
        return is_text(kind) or any(map(is_text, fields_of(kind).values()))

    def class_names(self, column: str) -> tuple[str, ...] | None:
        """Names that Hugging Face's ``ClassLabel`` has in the schema's metadata; None without them."""
        try:
            features = json.loads((self._schema.metadata or {})[b"huggingface"])["info"]["features"]
            feature = features[column]
            return tuple(feature["names"]) if feature["_type"] == "ClassLabel" else None
        except (KeyError, TypeError, ValueError):
            return None

    def rows(self, columns: Sequence[str], wanted: Callable[[int], bool] | None = None) -> Iterator[tuple[int, Row]]:
        """The named columns of each row, with its number from 1.

        Args:
            columns: Their names.
            wanted: Says of a row's number whether it is needed; all are by default.

        Raises:
            UserError: The file is damaged, or a text is not in UTF-8.
        """
        most = _WITH_IMAGES if any(_holds_bytes(self.type_of(name)) for name in columns) else _WITHOUT
        number = 0  # of the last row that was read
        try:
            # Memory stays that of a batch, however large a row group is.
            with pq.ParquetFile(self.file, pre_buffer=False, buffer_size=_BUFFER) as file:
                for group in range(file.num_row_groups):
                    rows, size = _size(file.metadata.row_group(group), columns)
                    if wanted is not None and not any(map(wanted, range(number + 1, number + rows + 1))):
                        number += rows
                        continue
                    at_once = max(1, min(most, _BYTES_AT_ONCE * rows // max(1, size)))
                    for batch in file.iter_batches(at_once, row_groups=[group], columns=list(columns)):
                        first = number + 1
                        number += batch.num_rows
                        for at, row in enumerate(self._values(batch, first), first):
                            if wanted is None or wanted(at):
                                yield at, row
        except (pa.ArrowException, OSError) as error:
            raise self._error(error, f"after row {number}: " if number else "") from None

    def _values(self, batch: pa.RecordBatch, first: int) -> Sequence[Row]:
        try:
            return batch.to_pylist()  # type: ignore[no-any-return]
        except UnicodeDecodeError:
            for name, column in zip(batch.schema.names, batch.columns, strict=True):
                for number, value in enumerate(column, first):
                    try:
                        value.as_py()
                    except UnicodeDecodeError:
                        raise UserError(f"row {number}: {name!r} is not in UTF-8", file=self.file) from None
            raise

    def _error(self, error: Exception, where: str = "") -> UserError:
        return UserError(f"{where}cannot be read as parquet: {first_line(error)}", file=self.file)


def plain(kind: pa.DataType) -> pa.DataType:
    """A type without its encoding: of a dictionary the type of its values, of an extension its storage."""
    if pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
        return plain(kind.value_type)
    return plain(kind.storage_type) if isinstance(kind, pa.BaseExtensionType) else kind


def is_text(kind: pa.DataType) -> bool:
    """Whether a type is one of Arrow's texts."""
    return any(is_one(kind) for is_one in _TEXTS)


def is_bytes(kind: pa.DataType) -> bool:
    """Whether a type is one of Arrow's bytes."""
    return any(is_one(kind) for is_one in _BYTES)


def items_of(kind: pa.DataType) -> pa.DataType | None:
    """The type of a list's items; None of what is no list."""
    return plain(kind.value_type) if any(is_one(kind) for is_one in _LISTS) else None


def fields_of(kind: pa.DataType) -> dict[str, pa.DataType]:
    """The types of a struct's fields; none of what is no struct."""
    return {field.name: plain(field.type) for field in kind} if pa.types.is_struct(kind) else {}


def _size(group: pq.RowGroupMetaData, columns: Sequence[str]) -> tuple[int, int]:
    """Rows of a row group, and the bytes of some columns with all that is in them."""
    parts = [group.column(number) for number in range(group.num_columns)]
    roots = tuple(f"{name}." for name in columns)
    return group.num_rows, sum(
        part.total_uncompressed_size for part in parts if f"{part.path_in_schema}.".startswith(roots)
    )


def _holds_bytes(kind: pa.DataType) -> bool:
    return is_bytes(kind) or any(map(is_bytes, fields_of(kind).values()))
