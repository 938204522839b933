"""What is in a store, in words."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from gaptune.data.store import Store
from gaptune.data.tokens import END

_NAMED = 5  # skipped images that are named


def describe(store: Store) -> list[tuple[str, str]]:
    """Pairs of a label and a text for ``gaptune data info``.

    Raises:
        UserError: The file of a split cannot be read.
    """
    meta = store.meta
    on_disk = sum(file.stat().st_size for file in store.path.iterdir())
    return [
        ("name", meta.name),
        ("folder", str(store.path)),
        ("image size", f"{meta.image_size} x {meta.image_size} pixels"),
        ("context length", f"{meta.context_length} tokens"),
        *((f"split {name}", _split(store, name)) for name in meta.splits),
        ("vocabulary", f"{len(meta.vocabulary):,} tokens"),
        ("classes", ", ".join(meta.classes) or "none"),
        *_losses(store),
        ("made by", _origin(store)),
        ("on disk", f"{on_disk / 1e6:,.1f} MB"),
        ("hash", meta.content_hash),
    ]


def _split(store: Store, name: str) -> str:
    split = store.split(name)
    lengths = np.argmax(split.tokens == END, axis=1) + 1  # start and end included
    captions = len(split.tokens)
    return (
        f"{len(split):,} images, {captions:,} captions ({captions / len(split):.2f} per image), "
        f"tokens per caption: mean {lengths.mean():.1f}, max {lengths.max()}"
    )


def _losses(store: Store) -> Iterator[tuple[str, str]]:
    """What the builder could not keep, where it counts that."""
    source = store.meta.source
    if "truncated" in source:
        yield "truncated", f"{source['truncated']:,} captions longer than {store.meta.context_length} tokens"
    if "broken" in source:
        named = [*source["skipped"][:_NAMED], *(["..."] if source["broken"] > _NAMED else [])]
        yield "skipped", f"{source['broken']:,} broken or missing images {', '.join(named)}".rstrip()
    if "without_captions" in source:
        yield "no captions", f"{source['without_captions']:,} images"
        yield "no image", f"{source['without_image']:,} captions"


def _origin(store: Store) -> str:
    source = store.meta.source
    if source.get("builder") != "coco":
        return f"{source.get('builder', 'unknown')}"
    files = ", ".join(f"{split}={file}" for split, file in source["annotations"].items())
    versions = ", ".join(f"{package} {number}" for package, number in source["versions"].items())
    return f"coco from {files} ({versions})"
