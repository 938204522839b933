"""Columns beside features: keys, labels, captions and pairs, in text, CSV, Parquet and npy files."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from gaptune.data.embeddings.arrays import open_array
from gaptune.data.embeddings.places import Place, chosen, listed, parts_of
from gaptune.data.sources.base import read_text, storable
from gaptune.errors import UserError, brief, did_you_mean, first_line

ENDINGS = (".txt", ".csv", ".tsv", ".parquet", ".npy", ".npz")


def read_column(place: Place, default: str = "") -> list[Any]:
    """The values of a column, one for each row of features.

    Args:
        place: A text file with a value on each line, an array of one dimension, or a table with the name of a column;
            or a directory of Parquet parts.
        default: Column of a table with several where the user names none.

    Raises:
        UserError: It cannot be read, or has no such column.
    """
    if place.path.is_dir():
        parts = parts_of(place.path, ".parquet")
        return [value for part in parts for value in read_column(Place(part, place.key), default)]
    if place.ending == ".txt":
        return [line.strip() for line in read_text(place.path).splitlines()]
    if place.ending in (".npy", ".npz"):
        found = open_array(place)
        if found.ndim != 1 or found.dtype.kind not in "iuUSb":
            raise UserError(
                f"has an array of shape {found.shape} ({found.dtype}): expected whole numbers or texts, one a row",
                file=place.path,
            )
        return [value.decode() if isinstance(value, bytes) else value for value in found.tolist()]
    return read_columns(place.path, [_name(place, default)])[0]


def read_columns(path: Path, names: Sequence[str]) -> list[list[Any]]:
    """Columns of a CSV or Parquet file.

    Raises:
        UserError: It cannot be read, or has no such column.
    """
    known = column_names(path)
    for name in names:
        if name not in known:
            raise UserError(f"has no column {name!r}{did_you_mean(name, known)}", file=path)
    if path.suffix.casefold() == ".parquet":
        try:
            table = pq.read_table(path, columns=list(names))
            return [table[name].to_pylist() for name in names]
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise UserError(f"cannot be read as parquet: {first_line(error)}", file=path) from None
    reader = _csv(path)
    header = next(reader)
    columns: list[list[Any]] = [[] for _ in names]
    for number, row in enumerate(reader):
        if not row:
            continue
        if len(row) != len(header):
            raise UserError(f"{listed([number])} has {len(row)} values, the header has {len(header)}", file=path)
        for column, name in zip(columns, names, strict=True):
            column.append(row[header.index(name)])
    return columns


def column_names(path: Path) -> list[str]:
    """The names of the columns of a CSV or Parquet file.

    Raises:
        UserError: It cannot be read.
    """
    if path.suffix.casefold() == ".parquet":
        try:
            return list(pq.read_schema(path).names)
        except (pa.ArrowException, OSError) as error:
            raise UserError(f"cannot be read as parquet: {first_line(error)}", file=path) from None
    if path.suffix.casefold() not in (".csv", ".tsv"):
        raise UserError(f"has another format: expected {', '.join(ENDINGS)}", file=path)
    return next(_csv(path), [])


def read_pairs(place: Place, images: int, texts: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Rows of images and of their texts from a table.

    Args:
        place: A CSV or Parquet file; its key is ``IMAGE,TEXT``, the names of two columns of row numbers from 0, by
            default ``image_row,text_row``.
        images: Number of images.
        texts: Number of texts.

    Raises:
        UserError: It cannot be read, or a row does not exist.
    """
    names = (place.key or "image_row,text_row").split(",")
    if len(names) != 2:
        raise UserError(f"{place.key!r}: expected two columns, such as image_row,text_row", file=place.path)
    columns = read_columns(place.path, names)
    rows = [_row_numbers(column, name, place.path) for column, name in zip(columns, names, strict=True)]
    for found, name, most, what in zip(rows, names, (images, texts), ("images", "texts"), strict=True):
        outside = np.flatnonzero((found < 0) | (found >= most))
        if len(outside):
            value = found[outside[0]]
            raise UserError(f"{listed(outside)}: {name} is {value}, but there are {most} {what}", file=place.path)
    if not len(rows[0]):
        raise UserError("has no pairs", file=place.path)
    return rows[0], rows[1]


def read_keys(place: Place, rows: int) -> list[str]:
    """The key of each row, as texts.

    Raises:
        UserError: A key is missing, or there are more or fewer than rows.
    """
    keys = read_column(place, "key")
    missing = [row for row, key in enumerate(keys) if key is None or key == "" or key != key]
    if missing:
        raise UserError(f"{listed(missing)}: no key", file=place.path)
    check_count(place, len(keys), rows, "keys")
    return [storable(str(key)) for key in keys]


def check_count(place: Place, found: int, rows: int, what: str) -> None:
    """Compares the length of a column with the number of features.

    Raises:
        UserError: They differ.
    """
    if found != rows:
        raise UserError(f"has {found} {what}, but there are {rows} rows of features", file=place.path)


def _name(place: Place, default: str) -> str:
    names = column_names(place.path)
    return default if place.key is None and default in names else chosen(place, names, "column")


def _csv(path: Path) -> Any:
    text = read_text(path)
    tabs = "\t" in text.partition("\n")[0]
    return csv.reader(io.StringIO(text, newline=""), delimiter="\t" if tabs else ",")


def _row_numbers(values: list[Any], name: str, path: Path) -> npt.NDArray[np.int64]:
    try:
        return np.array([int(value) for value in values], dtype=np.int64)
    except (ValueError, TypeError, OverflowError):
        row = next(row for row, value in enumerate(values) if not str(value).strip().lstrip("-").isdigit())
        found = brief(values[row], 40)
        raise UserError(f"{listed([row])}: {name} is {found}: expected a row number", file=path) from None
