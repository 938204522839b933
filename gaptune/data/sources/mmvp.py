"""Fine-grained pairs: two images that differ in one respect, and a caption for each."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from gaptune.data.images import inside
from gaptune.data.sources.base import Sample, Source, existing
from gaptune.errors import UserError

SPLIT = "pairs"
MMVP_TABLE, MMVP_IMAGES = "Questions.csv", "MLLM_VLM Images"
TABLE = "pairs.csv"
_MMVP_COLUMNS = ("Question ID", "Type", "Statement")
_COLUMNS = ("image1", "image2", "caption1", "caption2")


@dataclass(frozen=True)
class _Side:
    """An image of a pair with its caption."""

    image: str
    caption: str
    category: str


class Mmvp(Source):
    """A split ``pairs`` in which rows 2k and 2k + 1 are the images of pair k, each with its one caption.

    ``meta.classes`` are the categories of the pairs, and both rows of a pair have its category as their label. Two
    forms are read. MMVP-VLM's own (Tong et al. 2024, arXiv:2401.06209): ``Questions.csv`` with the columns ``Question
    ID``, ``Type`` and ``Statement``, whose neighboring rows are pairs, and ``MLLM_VLM Images/TYPE/ID.jpg``; captions
    are ``a photo of STATEMENT``, as its authors' script has them. And a plain one: ``pairs.csv`` with the columns
    ``image1``, ``image2``, ``caption1``, ``caption2`` and, if there is one, ``category``, and images by their path in
    the folder. A single broken image spoils the set.

    Args:
        folder: The folder.

    Raises:
        UserError: It has neither form, or a row of its table is not what it should be.
    """

    kind = "mmvp"
    splits = (SPLIT,)
    as_published = True
    in_pairs = True

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        if (folder / MMVP_TABLE).is_file():
            self._table = folder / MMVP_TABLE
            self._sides = list(_mmvp(self._table))
        elif (folder / TABLE).is_file():
            self._table = folder / TABLE
            self._sides = list(_plain(self._table))
        else:
            raise UserError(f"{folder} has no pairs (expected {MMVP_TABLE} with {MMVP_IMAGES}, or {TABLE})")
        if not self._sides:
            raise UserError("has no pairs", file=self._table)
        self.classes = tuple(sorted({side.category for side in self._sides} - {""}))

    @classmethod
    def at(cls, place: str) -> Self:
        """The source that ``mmvp:FOLDER`` means."""
        return cls(existing(place, "folder"))

    def samples(self, split: str) -> Iterator[Sample]:
        """Both images of each pair, in the order of the table."""
        numbers = {name: index for index, name in enumerate(self.classes)}
        for side in self._sides:
            label = numbers.get(side.category)
            yield Sample(side.image, inside(self._folder, side.image, hint=""), (side.caption,), label)

    def count(self, split: str) -> int:
        """How many images there are."""
        return len(self._sides)

    def files(self) -> Iterable[Path]:
        """The table and all images."""
        yield self._table
        yield from (self._folder / side.image for side in self._sides)

    def origin(self) -> dict[str, Any]:
        """Its folder."""
        return {"folder": str(self._folder)}


def _mmvp(file: Path) -> Iterator[_Side]:
    earlier: dict[str, str] | None = None
    line = 0
    for line, row in _rows(file, _MMVP_COLUMNS):
        if earlier is not None and row["Type"] != earlier["Type"]:
            raise UserError(f"a pair of {earlier['Type']!r} and {row['Type']!r}", file=file, line=line)
        earlier = row if earlier is None else None
        path = f"{MMVP_IMAGES}/{row['Type']}/{row['Question ID']}.jpg"
        yield _Side(path, f"a photo of {row['Statement']}", row["Type"])
    if earlier is not None:
        raise UserError("the last row has no partner", file=file, line=line)


def _plain(file: Path) -> Iterator[_Side]:
    for _, row in _rows(file, _COLUMNS):
        for number in "12":
            yield _Side(row[f"image{number}"], row[f"caption{number}"], row.get("category") or "")


def _rows(file: Path, columns: tuple[str, ...]) -> Iterator[tuple[int, dict[str, str]]]:
    """Rows with their lines; none of the columns is empty."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            reader = csv.DictReader(lines, skipinitialspace=True)
            lacking = [name for name in columns if name not in (reader.fieldnames or ())]
            if lacking:
                raise UserError(f"there is no column {', '.join(map(repr, lacking))}", file=file, line=1)
            for row in reader:
                stripped = {name: (row[name] or "").strip() for name in row if isinstance(row[name], str | None)}
                empty = [name for name in columns if not stripped.get(name)]
                if empty:
                    raise UserError(f"{empty[0]!r} is empty", file=file, line=reader.line_num)
                yield reader.line_num, stripped
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"cannot be read as CSV: {error}", file=file) from None
