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
        (
            ("features", f"{meta.features} per image and caption")
            if meta.features
            else ("image size", f"{meta.image_size} x {meta.image_size} pixels")
        ),
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
        captions = sum(split.captions for split in store.meta.splits.values())
        share = f"{source['truncated'] / captions:.2%}"
        yield (
            "truncated",
            f"{source['truncated']:,} captions ({share}) longer than {store.meta.context_length} tokens",
        )
    if "broken" in source:
        named = [*source["skipped"][:_NAMED], *(["..."] if source["broken"] > _NAMED else [])]
        yield "skipped", f"{source['broken']:,} broken or missing images {', '.join(named)}".rstrip()
    if "repeated" in source:
        dropped = ", ".join(f"{number:,} of {split}" for split, number in source["repeated"].items())
        yield "repeated", f"{dropped} dropped, the same image came before or is in val" if dropped else "no images"
    if "without_captions" in source:
        yield "no captions", f"{source['without_captions']:,} images"
    if "without_image" in source:
        yield "no image", f"{source['without_image']:,} captions"


def _origin(store: Store) -> str:
    source = store.meta.source
    places = source.get("annotations") or source.get("files") or source.get("folder") or source.get("file")
    if isinstance(places, dict):
        places = ", ".join(f"{split}={place}" for split, place in places.items())
    versions = ", ".join(f"{package} {number}" for package, number in source.get("versions", {}).items())
    made_by = str(source.get("builder", "unknown"))
    return made_by + (f" from {places}" if places else "") + (f" ({versions})" if versions else "")
