"""What a table's cell may hold as an image or a name, and the types of columns in a schema."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from gaptune.data.images import UnreadableError, inside
from gaptune.data.sources.base import storable
from gaptune.data.sources.captions import is_missing
from gaptune.data.sources.parquet import ParquetFile, fields_of, is_bytes, is_text, items_of
from gaptune.errors import UserError, brief

if TYPE_CHECKING:
    from gaptune.data.sources.tables import Columns

_SHORTEST = 64  # characters of an image in base64; names of files are shorter, or no image's first bytes
_DATA_URL = re.compile(r"data:image/[-+.\w]+;base64,")
_STARTS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"BM", b"II*\0", b"MM\0*")


def image_of(value: object, folder: Path, *, outside: bool = False) -> tuple[Path | bytes | UnreadableError, str]:
    """What an image is read from, or why it is not, and its path, if it has one.

    Args:
        value: A path, an image in base64, the bytes of one, Hugging Face's struct of ``bytes`` and ``path``, or
            nothing.
        folder: Folder that the path is relative to.
        outside: Whether images may lie outside the folder.

    Raises:
        UserError: It is something else. The message lacks the place.
    """
    if isinstance(value, Mapping):
        if value.get("bytes") is not None:
            path = value.get("path")
            return image_of(value["bytes"], folder, outside=outside)[0], storable(path) if isinstance(path, str) else ""
        value = value.get("path")
    if isinstance(value, bytes):
        return value, ""
    if isinstance(value, str):
        if (content := _decoded(value)) is not None:
            return content, ""
        if value.strip():
            return inside(folder, value, outside=outside), storable(value)
        return UnreadableError("missing", "the cell is empty"), ""
    if is_missing(value):
        return UnreadableError("missing", "the cell is empty"), ""
    raise UserError(f"{type(value).__name__} ({brief(value, 40)}) is no image: expected a path")


def name_of(value: object) -> str:
    """A name for an image from a text or a whole number; empty for null and blank.

    Raises:
        UserError: It is something else. The message lacks the place.
    """
    if is_missing(value):
        return ""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, str | int):
        return storable(str(value)).strip()
    raise UserError(f"{brief(value, 40)} cannot name an image: expected a text or a whole number")


def check_types(table: ParquetFile, columns: Columns) -> None:
    """Refuses columns of a Parquet file whose types cannot hold what they are asked for.

    Raises:
        UserError: One is of another type.
    """
    _check_image(table, columns.image)
    for name in columns.captions:
        _check_caption(table, name)
    if columns.id is not None:
        kind = table.type_of(columns.id)
        if not (is_text(kind) or _is_number(kind)):
            raise _wrong(table, columns.id, "texts or whole numbers")
    if columns.split is not None:
        kind = table.type_of(columns.split)
        if not (is_text(kind) or pa.types.is_null(kind)):
            raise _wrong(table, columns.split, "texts such as 'train'")
    if columns.label is not None:
        kind = table.type_of(columns.label)
        if not (is_text(kind) or _is_number(kind) or pa.types.is_boolean(kind) or pa.types.is_null(kind)):
            raise _wrong(table, columns.label, "whole numbers or names, one a row")


def _check_image(table: ParquetFile, name: str) -> None:
    kind = table.type_of(name)
    fields = fields_of(kind)
    if is_text(kind) or is_bytes(kind) or _are_image(fields):
        return
    items = items_of(kind)
    hint = "" if items is None else "; of several images make a row each"
    if items is not None and pa.types.is_floating(items):
        hint = "; `gaptune data features` reads features"
    raise _wrong(table, name, f"paths, the bytes of image files, or a struct of bytes and path{hint}")


def _are_image(fields: Mapping[str, pa.DataType]) -> bool:
    content, path = fields.get("bytes"), fields.get("path")
    holds = (content is not None and is_bytes(content)) or (path is not None and is_text(path))
    return holds and all(
        kind is None or pa.types.is_null(kind) or test(kind) for kind, test in ((content, is_bytes), (path, is_text))
    )


def _check_caption(table: ParquetFile, name: str) -> None:
    kind = table.type_of(name)
    item = items_of(kind)
    kind = kind if item is None else item
    if (
        is_text(kind) or pa.types.is_null(kind) or pa.types.is_floating(kind)
    ):  # floats: NaN for missing ones, or refused
        return
    hint = "in UTF-8, decode them (pandas: column.str.decode('utf-8'))" if is_bytes(kind) else ""
    if fields := fields_of(kind):
        hint = f"make a column of one of the fields {', '.join(map(repr, fields))}"
    raise _wrong(table, name, f"texts or lists of texts{'; ' if hint else ''}{hint}")


def _wrong(table: ParquetFile, name: str, expected: str) -> UserError:
    kind = table.type_of(name)
    return UserError(f"the column {name!r} has the type {kind}: expected {expected}", file=table.file)


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _decoded(text: str) -> bytes | None:
    """The image that a text holds in base64 (as a data URL, too), known by its first bytes; None for a path."""
    found = _DATA_URL.match(text)
    if found is None and len(text) < _SHORTEST:
        return None
    content = text[found.end() :] if found else text
    if found is None and not _begins_an_image(_bytes_of(content[:16])):
        return None
    return _bytes_of(content)


def _bytes_of(content: str) -> bytes | None:
    try:
        plain = "".join(content.split()).translate(str.maketrans("-_", "+/")).rstrip("=")
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None


def _begins_an_image(start: bytes | None) -> bool:
    if start is None:
        return False
    return start.startswith(_STARTS) or (start[:4] == b"RIFF" and start[8:12] == b"WEBP") or start[4:8] == b"ftyp"
