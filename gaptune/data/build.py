"""Stores from sources: images decoded and resized once, captions tokenized once, what is left out counted."""

from __future__ import annotations

import hashlib
import os
import warnings
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from gaptune.data.images import UnreadableError, decode, read_file
from gaptune.data.pixels import square
from gaptune.data.sources import Pixels, Sample, Source
from gaptune.data.store.meta import storable
from gaptune.data.store.reader import Store
from gaptune.data.store.writer import StoreWriter
from gaptune.data.tokens import encode, padded, tokenize
from gaptune.errors import UserError

VERSION = 2
"""Part of the names in the cache: raise it whenever the same source would become another store."""

MAX_BROKEN = 0.01
VAL_FRACTION = 0.05

NO_CAPTION, IN_VAL = "no caption", "in val"
"""Why an image that could be read is left out, as ``store.json`` counts it."""

_IN_VAL = -1  # in place of a row
_NAMED = 20  # images that store.json names for each split and reason
_NAMED_IN_ERROR = 3
_LONGEST = 120  # characters of an image's name in a message
_AT_ONCE = 256  # images held between reading and writing
_BYTES_AT_ONCE = 2**26  # of files, and of squares


def build(
    source: Source,
    *,
    out: Path,
    image_size: int,
    context_length: int,
    name: str | None = None,
    max_broken: float = MAX_BROKEN,
    val_fraction: float | None = None,
    progress: Callable[[int, int | None], None] = lambda done, total: None,
) -> Store:
    """Builds a store.

    The shorter side of each image is resized to ``image_size`` (bicubic) and the middle is kept. Images that are
    missing or cannot be read are left out and counted by the reason, as are images without captions. Of images with the
    same bytes the first of a split is kept, with the captions of all, each once; one that is in ``val`` is left out of
    ``train``. A source that is kept ``as_published`` keeps them all.

    Args:
        source: Where images and captions come from.
        out: Folder to create.
        image_size: Side of the stored squares in pixels.
        context_length: Token ids per caption, start and end included; longer captions are cut and counted.
        name: Name of the store; the folder's name by default.
        max_broken: Fraction of missing or unreadable images, from 0 to 1, above which nothing is built.
        val_fraction: Fraction of ``train`` that becomes ``val``, by the hash of each image, where the source has no
            ``val``: an image stays on its side when others are added. By default 0.05, and 0 where the source is kept
            as published.
        progress: Called with the number of images done and their total over all splits, None when unknown.

    Raises:
        UserError: The source is not what it should be, ``out`` exists, too many images are missing or broken, or none
            is left.
    """
    if val_fraction is None:
        val_fraction = 0.0 if source.as_published or "val" in source.splits else VAL_FRACTION
    elif val_fraction and "val" in source.splits:
        raise UserError("there is a split val already, so that no --val-fraction can be taken from train")
    counts = [source.count(split) for split in source.splits]
    total = None if None in counts else sum(count for count in counts if count is not None)
    classes = tuple(map(storable, source.classes))
    prompts = [template.format(each) for each in classes for template in source.prompts]
    prompt_tokens = tokenize(prompts, context_length) if prompts else None
    with StoreWriter(out, image_size, context_length) as writer, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, of odd files: what cannot be read is counted
        building = _Building(writer, context_length, val_fraction, merge=not source.as_published)
        done = 0
        for split in sorted(source.splits, key=lambda split: split != "val"):  # train must not repeat what val has
            tally = building.tallies[split] = Tally()
            samples = _captioned(source.samples(split), classes, tally, distinct=not source.as_published)
            for sample, key, pixels in _decoded(samples, image_size, building.known(split)):
                done += 1
                progress(done, total)
                building.add(split, sample, key, pixels)
            tally.left_out.update(source.left_out(split))
            tally.check_fraction(split, 0.0 if source.in_pairs else max_broken)
        if not any(tally.stored for tally in building.tallies.values()):
            raise UserError(_nothing_left(building.tallies))
        return writer.finish(
            name=name or out.name,
            source={
                "builder": source.kind,
                **source.origin(),
                "max_broken": max_broken,
                "val_fraction": val_fraction,
                "versions": {package: version(package) for package in ("pillow", "open_clip_torch")},
                **building.report(),
            },
            classes=classes,
            prompts=source.prompts,
            prompt_tokens=prompt_tokens,
        )


@dataclass
class Tally:
    """Counts of the samples of a split, by their outcome.

    Attributes:
        seen: Number of samples that had a caption or a label.
        stored: Number of images that were stored.
        merged: Number of repeated images, whose captions were added to the first one.
        left_out: Number of samples that were left out, by the reason.
        unread: Names of the first missing or broken images, by the reason.
        other_label: Number of merged images with another label than the image that was kept.
    """

    seen: int = 0
    stored: int = 0
    merged: int = 0
    other_label: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    unread: dict[str, list[str]] = field(default_factory=dict)

    def cannot_be_read(self, id: str, why: UnreadableError) -> None:
        """Counts an image that is missing or broken."""
        self.left_out[why.kind] += 1
        named = self.unread.setdefault(why.kind, [])
        if len(named) < _NAMED:
            id = id if len(id) <= _LONGEST else f"{id[:_LONGEST]}…"
            named.append(storable(f"{id} ({why.detail})" if why.detail else id))

    @property
    def broken(self) -> int:
        """How many images are missing or broken."""
        return sum(self.left_out[kind] for kind in self.unread)

    def reasons(self) -> str:
        """Why images cannot be read, with the first few of each reason."""
        return "; ".join(
            f"{self.left_out[kind]} {kind}: {', '.join(names[:_NAMED_IN_ERROR])}"
            + (", …" if self.left_out[kind] > _NAMED_IN_ERROR else "")
            for kind, names in self.unread.items()
        )

    def check_fraction(self, split: str, most: float) -> None:
        """Checks that no more images are missing or broken than are allowed.

        Raises:
            UserError: There are more.
        """
        if self.broken > most * self.seen:
            raise UserError(
                f"{self.broken} of {self.seen} {split} images are missing or broken "
                f"(--max-broken allows {most:.2%}): {self.reasons()}"
            )


class _Building:
    """A store under construction.

    Args:
        writer: Writer of the store.
        context_length: Token ids per caption.
        val_fraction: Fraction of ``train`` that becomes ``val``.
        merge: Whether the same image is kept once.
    """

    def __init__(self, writer: StoreWriter, context_length: int, val_fraction: float, *, merge: bool) -> None:
        self._writer = writer
        self._context_length = context_length
        self._val_fraction = val_fraction
        self._merge = merge
        self._rows: dict[str, dict[int, int]] = {}  # by the hash of what an image is kept as
        self._labels: dict[str, array[int]] = {}
        self._cut: set[int] = set()
        self.tallies: dict[str, Tally] = {}

    def known(self, split: str) -> Callable[[int], bool] | None:
        """Tells of an image's hash whether the image need not be decoded; None where all are kept."""
        return (lambda key: self._place(split, key)[1] is not None) if self._merge else None

    def add(self, split: str, sample: Sample, key: int, pixels: Pixels | UnreadableError | None) -> None:
        """Adds a sample.

        Args:
            split: The source's split.
            sample: With its captions.
            key: Hash of its image.
            pixels: Square of the image, or why there is none; None for an image that is ``known``.
        """
        tally = self.tallies[split]
        tally.seen += 1
        if isinstance(pixels, UnreadableError):
            tally.cannot_be_read(sample.id, pixels)
            return
        target, row = self._place(split, key)
        if row == _IN_VAL:
            tally.left_out[IN_VAL] += 1
            return
        tally = self.tallies.setdefault(target, Tally())
        tokens = self._tokens(key, target, sample.captions)
        labels = self._labels.setdefault(target, array("q"))
        label = -1 if sample.label is None else sample.label
        if row is not None:
            self._writer.extend(target, row, sample.captions, tokens, label=sample.label)
            tally.merged += 1
            tally.other_label += label != -1 and labels[row] not in (-1, label)
            labels[row] = label if labels[row] == -1 else labels[row]
            return
        assert pixels is not None
        row = self._writer.add(target, pixels, sample.captions, tokens, id=sample.id, label=sample.label)
        tally.stored += 1
        if self._merge:
            self._rows.setdefault(target, {})[key] = row
            labels.append(label)

    def report(self) -> Mapping[str, Any]:
        """What ``store.json`` says of it."""
        tallies = {
            split: tally for split, tally in self.tallies.items() if tally.seen or tally.stored or tally.left_out
        }
        return {
            "merged": {split: tally.merged for split, tally in tallies.items()},
            "other_label": {split: tally.other_label for split, tally in tallies.items()},
            "left_out": {split: dict(tally.left_out) for split, tally in tallies.items()},
            "unread": {split: tally.unread for split, tally in tallies.items()},
            "truncated": len(self._cut),
        }

    def _place(self, split: str, key: int) -> tuple[str, int | None]:
        """The split that an image belongs to, and its row there, if it has one already."""
        target = "val" if split == "train" and key >> 64 < self._val_fraction * 2**64 else split
        if not self._merge:
            return target, None
        if target == "train" and key in self._rows.get("val", ()):
            return target, _IN_VAL
        return target, self._rows.get(target, {}).get(key)

    def _tokens(self, key: int, split: str, captions: tuple[str, ...]) -> np.ndarray[Any, np.dtype[np.uint16]]:
        ids = [encode(caption, self._context_length - 1) for caption in captions]
        for caption, own in zip(captions, ids, strict=True):
            if len(own) > self._context_length - 2:
                # The same caption of the same image counts once, as it is stored once.
                self._cut.add(hash((key, split, caption)) if self._merge else len(self._cut))
        return padded(ids, self._context_length)


def _captioned(
    samples: Iterator[Sample], classes: tuple[str, ...], tally: Tally, *, distinct: bool
) -> Iterator[Sample]:
    """The samples that have captions; a class is a caption where there is no other."""
    for sample in samples:
        captions = tuple(storable(caption) for caption in sample.captions if caption.strip())
        captions = tuple(dict.fromkeys(captions)) if distinct else captions
        if not captions and sample.label is not None:
            captions = (f"a photo of a {classes[sample.label]}",)
        if captions:
            yield Sample(storable(sample.id), sample.image, captions, sample.label)
        else:
            tally.left_out[NO_CAPTION] += 1


def _decoded(
    samples: Iterator[Sample], side: int, known: Callable[[int], bool] | None
) -> Iterator[tuple[Sample, int, Pixels | UnreadableError | None]]:
    """Samples in their order, each with its hash, and its square where it is not known. Few are held at a time."""
    most = max(16, min(_AT_ONCE, _BYTES_AT_ONCE // (3 * side * side)))
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:

        def start(batch: list[Sample]) -> Iterator[tuple[int, Pixels | UnreadableError | None]]:
            begun: dict[int, int] = {}  # of images that occur several times one is decoded
            return pool.map(
                lambda index, sample: _decode(
                    sample.image,
                    side,
                    None if known is None else lambda key: known(key) or begun.setdefault(key, index) != index,
                ),
                range(len(batch)),
                batch,
            )

        under_way: list[tuple[list[Sample], Iterator[tuple[int, Pixels | UnreadableError | None]]]] = []
        for batch in _batches(samples, most):
            under_way.append((batch, start(batch)))
            if len(under_way) == 2:  # one is decoded while the other is written
                yield from _together(*under_way.pop(0))
        for each in under_way:
            yield from _together(*each)


def _together(
    batch: list[Sample], decoded: Iterator[tuple[int, Pixels | UnreadableError | None]]
) -> Iterator[tuple[Sample, int, Pixels | UnreadableError | None]]:
    results = list(decoded)
    made = {key: result for key, result in results if result is not None}
    for sample, (key, result) in zip(batch, results, strict=True):
        yield sample, key, made.get(key) if result is None else result


def _batches(samples: Iterator[Sample], most: int) -> Iterator[list[Sample]]:
    batch: list[Sample] = []
    held = 0
    for sample in samples:
        batch.append(sample)
        held += len(sample.image) if isinstance(sample.image, bytes) else 0
        if len(batch) == most or held >= _BYTES_AT_ONCE:
            yield batch
            batch, held = [], 0
    if batch:
        yield batch


def _decode(
    image: Path | bytes | Pixels | UnreadableError, side: int, known: Callable[[int], bool] | None
) -> tuple[int, Pixels | UnreadableError | None]:
    """The hash of what an image is kept as (not of its square, which depends on the size), and its square.

    The square is None where the image is known, and what is wrong with the image where it cannot be read.
    """
    if isinstance(image, UnreadableError):
        return 0, image
    key = 0
    try:
        content = image.tobytes() if isinstance(image, np.ndarray) else image
        content = read_file(content) if isinstance(content, Path) else content
        key = int.from_bytes(hashlib.blake2b(content, digest_size=16).digest())
        if known is not None and known(key):
            return key, None
        opened = Image.fromarray(image) if isinstance(image, np.ndarray) else decode(content)
        return key, square(opened, side)
    except UnreadableError as why:
        return key, why


def _nothing_left(tallies: Mapping[str, Tally]) -> str:
    counted: Counter[str] = Counter()
    for tally in tallies.values():
        counted.update(tally.left_out)
    said = ", ".join(f"{count} {reason}" for reason, count in counted.items())
    unread = "; ".join(reasons for tally in tallies.values() if (reasons := tally.reasons()))
    return f"empty data: no image is left ({said or 'there was none'}){': ' if unread else ''}{unread}"
