"""Rows of CSV, TSV and JSON Lines files: a reader for each form, which says file and line of what is wrong."""

from __future__ import annotations

import csv
import json
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from gaptune.data.sources.base import check_utf8
from gaptune.errors import UserError, did_you_mean

_LONGEST_VALUE = 1 << 24  # characters: the csv module allows 131,072, which an image in base64 exceeds
_RETURN = "\udc0d"  # stands for a carriage return: no text in UTF-8 has this
_QUOTED = re.compile(r'"(?:[^"]|"")*"')

_log = logging.getLogger(__name__)

Row = Mapping[str, Any]


class CsvFile:
    """A CSV file: in UTF-8, with a header, separated by tabs if the header has one, else by commas.

    Lines end at a line feed, with a carriage return or without. Values are quoted as RFC 4180 has it (pandas and the
    csv module write tabs so, too). Where each line of a tab-separated file is a row and a quotation mark is not closed,
    it is read without quoting. No row is swallowed by a quotation mark that is closed rows later: that is an error.

    Args:
        file: The file.
        image: The column of image paths, by which rows inside a quoted value are recognized.

    Raises:
        UserError: The file has no header or cannot be read.
    """

    form = "csv"

    def __init__(self, file: Path, image: str) -> None:
        self.file = file
        csv.field_size_limit(max(_LONGEST_VALUE, csv.field_size_limit()))
        header = next((line for _, line in _lines(file) if line.strip()), None)
        if header is None:
            raise UserError("has no header", file=file)
        self._separator = "\t" if "\t" in header else ","
        self._line_is_row, self._quoted = False, True
        self.names: Sequence[str] = next(self._parsed())[1]
        if self._separator == "\t":
            self._line_is_row, self._quoted = _tab_form(file, len(self.names))
            self.names = next(self._parsed())[1]
        self._image = self.names.index(image) if image in self.names else None

    def place(self, number: int) -> str:
        """Where a row stands."""
        return f"line {number}"

    def rows(self, columns: Sequence[str]) -> Iterator[tuple[int, Row]]:
        """The named columns of each row, with the line where the row begins.

        Raises:
            UserError: A row is not what it should be.
        """
        where = {name: self.names.index(name) for name in columns}
        parsed = self._parsed()
        next(parsed, None)
        for line, values in parsed:
            if len(values) != len(self.names):
                raise self._error(line, f"Expected {len(self.names)} columns, got {len(values)}")
            if any("\n" in value for value in values):
                self._check_not_swallowed(line, values)
            yield line, {name: values[index] for name, index in where.items()}

    def _parsed(self) -> Iterator[tuple[int, list[str]]]:
        if self._line_is_row:
            for line, text in _lines(self.file):
                if values := _split_at_tabs(text):
                    yield line, [_unquoted(value) for value in values] if self._quoted else values
            return
        lines = (_without_returns(line) for _, line in _lines(self.file))
        reader = csv.reader(lines, delimiter=self._separator, strict=True)
        line = 1
        while True:
            try:
                values = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                raise self._error(line, _explained(str(error))) from None
            if any(values) or len(values) > 1:
                yield line, [value.replace(_RETURN, "\r") for value in values]
            line = reader.line_num + 1

    def _check_not_swallowed(self, line: int, values: list[str]) -> None:
        """Refuses a quoted value of several lines, one of which is a row of its own by its image."""
        if self._image is None:
            return
        image = values[self._image]
        for value in values:
            for number, inner in enumerate(value.split("\n")[1:], 1):
                cells = inner.rstrip("\r").split(self._separator)
                if len(cells) > self._image and _alike(cells[self._image], image):
                    row = f"line {line + number}, which is a row of its own"
                    raise self._error(line, f"a quotation mark is not closed before {row}")

    def _error(self, line: int, what: str) -> UserError:
        return UserError(f"line {line}: {what}", file=self.file)


class JsonlFile:
    """A JSON Lines file: in UTF-8, an object a line.

    Args:
        file: The file.

    Raises:
        UserError: It cannot be read.
    """

    form = "jsonl"

    def __init__(self, file: Path) -> None:
        self.file = file
        self.names: Sequence[str] = list(dict.fromkeys(name for _, row in self._objects() for name in row))

    def place(self, number: int) -> str:
        """Where a row stands."""
        return f"line {number}"

    def rows(self, columns: Sequence[str]) -> Iterator[tuple[int, Row]]:
        """The named columns of each row, with its line; null where a row lacks one.

        Raises:
            UserError: A line is no object.
        """
        for number, row in self._objects():
            yield number, {name: row.get(name) for name in columns}

    def _objects(self) -> Iterator[tuple[int, dict[str, Any]]]:
        for number, line in _lines(self.file):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise UserError(f"line {number}: not JSON: {error}", file=self.file) from None
            if not isinstance(row, dict):
                raise UserError(f'line {number}: expected an object such as {{"filepath": …}}', file=self.file)
            yield number, row


def check_columns(file: Path, known: Sequence[str], asked: Sequence[str]) -> None:
    """Refuses columns that a file lacks, or has several times.

    Raises:
        UserError: It lacks one, or has it several times.
    """
    for name in asked:
        if name not in known and len(known) == 1 and ";" in known[0]:
            raise UserError("looks separated by semicolons: expected commas or tabs", file=file)
        if name not in known:
            raise UserError(f"there is no column {name!r}{did_you_mean(name, known)}", file=file)
        if known.count(name) > 1:
            raise UserError(f"there are {known.count(name)} columns {name!r}", file=file)


def _lines(file: Path) -> Iterator[tuple[int, str]]:
    """Lines with their ends, which are line feeds only, by their number from 1; without a byte-order mark."""
    try:
        with file.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if number == 1:
                    check_utf8(line, file)
                try:
                    yield number, line.decode("utf-8-sig" if number == 1 else "utf-8")
                except UnicodeDecodeError:
                    raise UserError(f"line {number}: is not in UTF-8", file=file) from None
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror}", file=file) from None


def _tab_form(file: Path, width: int) -> tuple[bool, bool]:
    """Whether each line of a tab-separated file is a row by itself, and whether its values are quoted."""
    unclosed = 0
    for number, line in _lines(file):
        values = _split_at_tabs(line)
        if values and len(values) != width:
            return False, True
        if not unclosed and any(value.startswith('"') and not _QUOTED.fullmatch(value) for value in values):
            unclosed = number
    if unclosed:
        _log.warning("%s: line %d: a quotation mark is not closed; reading without quoting", file, unclosed)
    return True, not unclosed


def _split_at_tabs(line: str) -> list[str]:
    text = line.removesuffix("\n").removesuffix("\r")
    return text.split("\t") if text else []


def _without_returns(line: str) -> str:
    """Hides carriage returns inside a line: the csv module takes them for line ends, and pandas does not quote them."""
    inside = line.removesuffix("\n").removesuffix("\r")
    return inside.replace("\r", _RETURN) + line[len(inside) :]


def _unquoted(value: str) -> str:
    return value[1:-1].replace('""', '"') if _QUOTED.fullmatch(value) else value


def _alike(cell: str, image: str) -> bool:
    """Whether a cell looks like an image: it has the ending of one, or without endings the same shape."""
    if ending := Path(image).suffix:
        return Path(cell).suffix.lower() == ending.lower()
    return _shape(cell) == _shape(image)


def _shape(text: str) -> str:
    return re.sub(r"[0-9]+", "0", re.sub(r"[^\W\d_]+", "a", text))


def _explained(error: str) -> str:
    if "unexpected end of data" in error:
        return "a quotation mark is opened and never closed"
    if "expected after" in error:
        return "a quotation mark in a quoted value (write it twice), or one that was never closed"
    if "field limit" in error:
        return f"a value of more than {_LONGEST_VALUE:,} characters: is a quotation mark never closed?"
    return error
