"""Arrays of features in npy, npz, safetensors and Parquet files, mapped into memory where the format allows it."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from gaptune.data.embeddings.places import Place, chosen, listed
from gaptune.data.sources.parquet import items_of, plain
from gaptune.errors import UserError, first_line

Array = npt.NDArray[Any]

ENDINGS = (".npy", ".npz", ".safetensors", ".parquet")

_SAFETENSORS = {"BF16": "<u2", "F16": "<f2", "F32": "<f4", "F64": "<f8"}
_LONGEST_HEADER = 100_000_000  # bytes, as in the safetensors library
_AT_ONCE = 4096  # rows of Parquet


def open_features(place: Place) -> Array:
    """The features in a file.

    Args:
        place: The file, with the name of an array or column in it where it has several.

    Returns:
        Shape (rows, width), float16, float32 or float64; mapped into memory, except for Parquet, compressed npz, and
        bfloat16, which becomes float32.

    Raises:
        UserError: It is damaged, or holds something else.
    """
    found = open_array(place)
    _check_type(place.path, found.dtype)
    if found.ndim != 2:
        raise UserError(f"has an array of shape {found.shape}: expected (rows, width)", file=place.path)
    if not found.size:
        raise UserError(f"has an array of shape {found.shape}: it is empty", file=place.path)
    return found


def open_array(place: Place) -> Array:
    """The array in a file, of any shape and type of numbers or texts; see ``open_features``.

    Raises:
        UserError: It is damaged or of another format, or holds Python objects, which are never unpickled.
    """
    readers = dict(zip(ENDINGS, (_npy, _npz, _safetensors, _parquet), strict=True))
    if place.ending not in readers:
        raise UserError(f"has another format: expected {', '.join(ENDINGS)}, or a directory of parts", file=place.path)
    try:
        return readers[place.ending](place)
    except UserError:
        raise
    except Exception as error:  # of a damaged header, the readers of three libraries raise what they like
        raise UserError(f"cannot be read as {place.ending[1:]}: {first_line(error)}", file=place.path) from None


def _npy(place: Place) -> Array:
    if place.key is not None:
        raise UserError(f"holds a single array without a name: leave out :{place.key}", file=place.path)
    with place.path.open("rb") as file:
        return _npy_at(file, place.path, place.path.stat().st_size)


def _npy_at(file: BinaryIO, path: Path, end: int) -> Array:
    """Maps an array in the format npy that begins where an open file stands, and ends before a byte."""
    shape, fortran, dtype = _npy_header(file, path)
    return _mapped(path, dtype, file.tell(), end, shape, "F" if fortran else "C")


def _npy_header(file: Any, path: Path) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(file)
    if dtype.hasobject:
        raise UserError("holds Python objects (a pickle), which are not read: save an array of floats", file=path)
    return shape, fortran, dtype


def _npz(place: Place) -> Array:
    with zipfile.ZipFile(place.path) as archive:
        names = [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
        member = archive.getinfo(f"{chosen(place, names, 'array')}.npy")
        if member.compress_type != zipfile.ZIP_STORED:
            with archive.open(member) as packed:
                _npy_header(packed, place.path)
            with archive.open(member) as packed:
                return np.asarray(np.lib.format.read_array(packed, allow_pickle=False))
    with place.path.open("rb") as file:
        file.seek(member.header_offset)
        local = file.read(30)  # the local header, whose extra field differs from that of the directory
        start = file.tell() + int.from_bytes(local[26:28], "little") + int.from_bytes(local[28:30], "little")
        file.seek(start)
        return _npy_at(file, place.path, start + member.file_size)


def _safetensors(place: Place) -> Array:
    """The header is JSON behind its length; see https://huggingface.co/docs/safetensors."""
    size = place.path.stat().st_size
    with place.path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(size - 8, _LONGEST_HEADER):
            raise ValueError("its header is damaged")
        header = json.loads(file.read(length))
    header.pop("__metadata__", None)
    entry = header[chosen(place, list(header), "array")]
    if entry["dtype"] not in _SAFETENSORS:
        raise UserError(f"has the type {entry['dtype']}: expected BF16, F16, F32, or F64", file=place.path)
    start, end = (8 + length + offset for offset in entry["data_offsets"])
    if end > size:
        raise ValueError(f"it is truncated: it has {size} bytes, its header means at least {end}")
    found = _mapped(place.path, np.dtype(_SAFETENSORS[entry["dtype"]]), start, end, tuple(entry["shape"]), "C")
    if entry["dtype"] == "BF16":  # numpy has no such type: it is the upper half of a float32
        return (found.astype(np.uint32) << 16).view(np.float32)
    return found


def _mapped(path: Path, dtype: np.dtype[Any], start: int, end: int, shape: tuple[int, ...], order: Any) -> Array:
    wanted = prod(shape) * dtype.itemsize
    if end - start < wanted:
        raise ValueError(f"it is truncated: its array has {max(0, end - start)} bytes, its header means {wanted}")
    if not wanted:
        return np.empty(shape, dtype)
    return np.memmap(path, dtype, "r", start, shape, order)


def _parquet(place: Place) -> Array:
    """A column of lists of one length, or all columns of floats."""
    with pq.ParquetFile(place.path) as file:
        kinds = {field.name: plain(field.type) for field in file.schema_arrow}
        lists = [name for name, kind in kinds.items() if items_of(kind) is not None]
        floats = [name for name, kind in kinds.items() if pa.types.is_floating(kind)]
        if place.key is None and not lists and floats:
            return _filled(file, floats, place.path)
        name = chosen(place, list(kinds) if place.key else lists, "column of features" if not place.key else "column")
        if (items := items_of(kinds[name])) is None:
            raise UserError(f"the column {name!r} has the type {kinds[name]}: expected lists", file=place.path)
        if not pa.types.is_floating(items):
            _check_type(place.path, items)
        return _filled(file, [name], place.path)


def _filled(file: pq.ParquetFile, names: list[str], path: Path) -> Array:
    found: Array | None = None
    first = 0
    for block in _blocks(file, names, path):
        if found is None:
            found = np.empty((file.metadata.num_rows, block.shape[1]), block.dtype)
        if block.shape[1] != found.shape[1]:
            raise UserError(f"{listed([first])} has {block.shape[1]} numbers, others {found.shape[1]}", file=path)
        found[first : first + len(block)] = block
        first += len(block)
    return np.empty((0, 0), np.float32) if found is None else found


def _blocks(file: pq.ParquetFile, names: list[str], path: Path) -> Iterator[Array]:
    first = 0
    for batch in file.iter_batches(_AT_ONCE, columns=names):
        if not batch.num_rows:
            continue
        for column in batch.columns:
            if column.null_count:
                null = np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False)) + first
                raise UserError(f"{listed(null)}: no features", file=path)
        if len(names) > 1 or items_of(plain(batch.schema.types[0])) is None:
            yield np.stack([column.to_numpy(zero_copy_only=False) for column in batch.columns], axis=1)
        else:
            yield _lists(batch.column(0), first, path)
        first += batch.num_rows


def _lists(column: Any, first: int, path: Path) -> Array:
    lengths = column.value_lengths().to_numpy(zero_copy_only=False)
    if len(other := np.flatnonzero(lengths != lengths[0])):
        raise UserError(
            f"{listed(other[:1] + first)} has {lengths[other[0]]} numbers, others {lengths[0]}: two different towers?",
            file=path,
        )
    values = column.flatten()
    if values.null_count:
        null = np.flatnonzero(values.is_null().to_numpy(zero_copy_only=False)) // lengths[0]
        raise UserError(f"{listed(np.unique(null) + first)}: null in place of a number", file=path)
    return np.asarray(values.to_numpy(zero_copy_only=False)).reshape(len(column), -1)


def _check_type(path: Path, found: Any) -> None:
    if str(found).lstrip("<>=|") not in ("float16", "float32", "float64", "f2", "f4", "f8"):
        raise UserError(f"has numbers of the type {found}: expected float16, float32, or float64", file=path)
