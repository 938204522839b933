"""Stores from sources: images decoded and resized once, captions tokenized once, what is lost counted."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib.metadata import version
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image

from gaptune.data.pixels import square
from gaptune.data.sources import Pixels, Sample, Source
from gaptune.data.store import Store, StoreWriter
from gaptune.data.tokens import encode, tokenize
from gaptune.errors import UserError

VERSION = 2
"""Part of the names in the cache: raise it whenever the same source would become another store."""

MAX_BROKEN = 0.01
VAL_SHARE = 0.05

_NAMED = 100  # broken images that store.json names
_NAMED_IN_ERROR = 3
_AT_ONCE = 256  # images held between decoding and writing


def build(
    source: Source,
    *,
    out: Path,
    image_size: int,
    context_length: int,
    name: str | None = None,
    max_broken: float = MAX_BROKEN,
    val_share: float | None = None,
    progress: Callable[[int, int | None], None] = lambda done, total: None,
) -> Store:
    """Builds a store.

    The shorter side of each image is resized to ``image_size`` (bicubic) and the middle is kept. Images that are
    missing or cannot be read are skipped and counted, as are images without captions. Of images with the same bytes
    the first of a split is kept, and one that is in ``val`` is dropped from ``train``, unless the source is kept
    ``as_published``.

    Args:
        source: Where images and captions come from.
        out: The folder to make.
        image_size: Side of the stored squares in pixels.
        context_length: Token ids per caption, start and end included; longer captions are cut and counted.
        name: What people call it; the folder's name by default.
        max_broken: Share of missing or unreadable images, from 0 to 1, above which nothing is built.
        val_share: Share of ``train`` that becomes ``val``, by the hash of each image, where the source has no ``val``:
            an image stays on its side when others are added. By default 0.05, and 0 where the source is kept as
            published.
        progress: Called with the number of images done and their total over all splits, None when unknown.

    Raises:
        UserError: The source is not what it should be, ``out`` exists, or too many images are missing or broken.
    """
    if val_share is None:
        val_share = 0.0 if source.as_published or "val" in source.splits else VAL_SHARE
    elif val_share and "val" in source.splits:
        raise UserError("there is a split val already, so that no --val-share can be taken from train")
    counts = [source.count(split) for split in source.splits]
    total = None if None in counts else sum(count for count in counts if count is not None)
    tally = _Tally(drop_repeated=not source.as_published)
    done = 0
    with StoreWriter(out, image_size, context_length) as writer:
        for split in sorted(source.splits, key=lambda split: split != "val"):  # train must not repeat what val has
            broken, seen = [], 0
            for sample, key, pixels in _decoded(tally.captioned(source, split), image_size):
                done += 1
                seen += 1
                progress(done, total)
                if pixels is None:
                    broken.append(sample.id)
                    continue
                to_val = split == "train" and int.from_bytes(key[:8]) < val_share * 2**64
                target = "val" if to_val else split
                if tally.repeated(key, target):
                    continue
                tokens = tokenize(sample.captions, context_length)
                tally.truncated += sum(
                    len(encode(caption, context_length - 1)) > context_length - 2 for caption in sample.captions
                )
                writer.add(target, pixels, sample.captions, tokens, id=sample.id, label=sample.label)
            _check_share(split, broken, seen, 0.0 if source.in_pairs else max_broken)
            tally.broken[split] = broken
        skipped = [f"{split}/{each}" for split in source.splits for each in tally.broken[split]]
        prompts = [template.format(each) for each in source.classes for template in source.prompts]
        return writer.finish(
            name=name or out.name,
            source={
                "builder": source.kind,
                **source.origin(),
                "max_broken": max_broken,
                "val_share": val_share,
                "versions": {package: version(package) for package in ("pillow", "open_clip_torch")},
                "broken": len(skipped),
                "skipped": skipped[:_NAMED],
                "without_captions": tally.without_captions,
                "repeated": tally.repeats,
                "truncated": tally.truncated,
            },
            classes=source.classes,
            prompts=source.prompts,
            prompt_tokens=tokenize(prompts, context_length) if prompts else None,
        )


@dataclass
class _Tally:
    """What is counted while a store is built.

    Attributes:
        drop_repeated: Whether images that come again are dropped.
        repeats: How many were, by the split that they were in.
        broken: Ids of broken images by split.
    """

    drop_repeated: bool
    repeats: dict[str, int] = field(default_factory=dict)
    broken: dict[str, list[str]] = field(default_factory=dict)
    without_captions: int = 0
    truncated: int = 0
    _keys: dict[str, set[int]] = field(default_factory=dict)

    def captioned(self, source: Source, split: str) -> Iterator[Sample]:
        """The samples of a split that have captions; a class is a caption where there is no other."""
        for sample in source.samples(split):
            captions = tuple(caption for caption in sample.captions if caption.strip())
            if not captions and sample.label is not None:
                captions = (f"a photo of a {source.classes[sample.label]}",)
            if captions:
                yield Sample(sample.id, sample.image, captions, sample.label)
            else:
                self.without_captions += 1

    def repeated(self, key: bytes, split: str) -> bool:
        """Whether an image is to be dropped because it was there before."""
        if not self.drop_repeated:
            return False
        number = int.from_bytes(key)
        known = [self._keys.setdefault(split, set()), *([self._keys.get("val", set())] if split == "train" else [])]
        if any(number in keys for keys in known):
            self.repeats[split] = self.repeats.get(split, 0) + 1
            return True
        known[0].add(number)
        return False


def _decoded(samples: Iterator[Sample], side: int) -> Iterator[tuple[Sample, bytes, Pixels | None]]:
    """Samples in their order, each with its hash and its image, None if that cannot be read. Few are held at a time."""
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        while batch := list(islice(samples, _AT_ONCE)):
            for sample, (key, pixels) in zip(
                batch, pool.map(lambda each: _decode(each.image, side), batch), strict=True
            ):
                yield sample, key, pixels


def _decode(image: Path | bytes | Pixels, side: int) -> tuple[bytes, Pixels | None]:
    """The hash of what an image is kept as (not of its square, which depends on the size), and its square."""
    if isinstance(image, np.ndarray):
        return _hash(image.tobytes()), square(Image.fromarray(image), side)
    try:
        content = image.read_bytes() if isinstance(image, Path) else image
        with Image.open(io.BytesIO(content)) as opened:
            return _hash(content), square(opened.convert("RGB"), side)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):  # SyntaxError: broken PNG chunks
        return b"", None


def _hash(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=16).digest()


def _check_share(split: str, broken: list[str], total: int, most: float) -> None:
    if len(broken) > most * total or (broken and len(broken) == total):
        named = ", ".join(broken[:_NAMED_IN_ERROR]) + (", ..." if len(broken) > _NAMED_IN_ERROR else "")
        raise UserError(
            f"{len(broken)} of {total} {split} images are missing or broken (--max-broken allows {most:.2%}): {named}"
        )
