"""The interface of all sources."""

from __future__ import annotations

import codecs
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from gaptune.data.images import UnreadableError
from gaptune.data.store.meta import storable as storable
from gaptune.errors import UserError

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Sample:
    """An image with its captions, before it is decoded.

    Attributes:
        id: A name for the image.
        image: A file, the bytes of one, pixels (uint8, shape (height, width, 3)), or why there is none.
        captions: Texts; blank ones are left out. Without any, a labeled image has its class as its caption, and one
            without a label is left out.
        label: Index into the source's classes.
    """

    id: str
    image: Path | bytes | Pixels | UnreadableError
    captions: tuple[str, ...] = ()
    label: int | None = None


class Source(ABC):
    """Images and captions that a store can be built from.

    A new source is a class of its own module, and an entry in ``SOURCES``; ``KIND:PLACE`` then opens it. Its tests
    inherit from ``SourceConformance`` (``tests/helpers/source_conformance.py``).

    Attributes:
        kind: Name before the colon of a reference, such as ``coco``.
        splits: Names of the splits. Where there is ``train`` alone, a fraction of it can become ``val`` by hash.
        classes: Names of the classes, in the order of the labels; empty without labels.
        prompts: Templates such as ``a photo of a {}`` for zero-shot classification.
        as_published: Whether it is a benchmark with published results, which is kept whole: no repeated image is
            dropped from it, and nothing is taken from its training part unless asked for.
        in_pairs: Whether rows 2k and 2k + 1 belong together, so that none may be missing or broken.
    """

    kind: str
    splits: tuple[str, ...]
    classes: tuple[str, ...] = ()
    prompts: tuple[str, ...] = ()
    as_published: bool = False
    in_pairs: bool = False

    @classmethod
    @abstractmethod
    def at(cls, place: str) -> Self:
        """The source that ``KIND:PLACE`` means.

        Raises:
            UserError: There is nothing of this kind, or it is not what it should be.
        """

    @abstractmethod
    def samples(self, split: str) -> Iterator[Sample]:
        """The samples of a split, always in the same order.

        Raises:
            UserError: A file is not what it should be.
        """

    @abstractmethod
    def count(self, split: str) -> int | None:
        """How many samples a split has; None when that is not known before they are read."""

    def left_out(self, split: str) -> Mapping[str, int]:
        """How many files of a split are no samples, by the reason; known once its samples have been read."""
        return {}

    @abstractmethod
    def files(self) -> Iterable[Path]:
        """All files whose change would change the store."""

    @abstractmethod
    def origin(self) -> dict[str, Any]:
        """Its location and how it was read, for people, as JSON can hold it."""


def check_split_name(name: str) -> str:
    """A split's name, which is also that of its file.

    Raises:
        UserError: It is not made of letters, digits and _.
    """
    if not name.isidentifier():
        raise UserError(f"{name!r} cannot name a split: use letters, digits and _")
    return name


def read_text(file: Path) -> str:
    """A file's text in UTF-8, without a byte-order mark.

    Raises:
        UserError: It cannot be read, or is not in UTF-8.
    """
    try:
        content = file.read_bytes()
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror}", file=file) from None
    check_utf8(content, file)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError("is not in UTF-8", file=file, line=content.count(b"\n", 0, error.start) + 1) from None


def check_utf8(beginning: bytes, file: Path) -> None:
    """Refuses UTF-16 and UTF-32 by their mark, or by their zero bytes.

    Raises:
        UserError: It is one of them.
    """
    if beginning.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE)) or b"\0" in beginning[:64]:
        raise UserError("is not in UTF-8 (it looks like UTF-16 or is no text): save it as UTF-8", file=file)


def existing(place: str | Path, what: str) -> Path:
    """A path as an absolute one.

    Raises:
        UserError: There is nothing.
    """
    path = Path(os.path.expanduser(place)).resolve()  # noqa: PTH111  # Path's own raises for a user nobody knows
    if not path.exists():
        raise UserError(f"there is no {what} {path}")
    return path
