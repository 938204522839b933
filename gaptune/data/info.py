"""What is in a store, in words."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from gaptune.data.store.reader import Store
from gaptune.data.tokens import END

_NAMED = 3  # images that are named for each reason


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
        *(
            [("features", str(meta.features))]
            if meta.features
            else [
                ("image size", f"{meta.image_size} x {meta.image_size} pixels"),
                ("context length", f"{meta.context_length} tokens"),
            ]
        ),
        *((f"{name} captions", _lengths(store, name)) for name in meta.splits),
        ("vocabulary", f"{len(meta.vocabulary):,} tokens"),
        ("classes", ", ".join(meta.classes) or "none"),
        *_losses(store),
        ("made by", _origin(store)),
        ("on disk", f"{on_disk / 1e6:,.1f} MB"),
        ("hash", meta.content_hash),
    ]


def splits_table(store: Store) -> list[tuple[str, ...]]:
    """Rows of a table for ``gaptune data info``, a header first: what each split holds, and what was left out of it.

    Raises:
        UserError: The file of a split cannot be read.
    """
    source = store.meta.source
    merged, left_out = source.get("merged", {}), source.get("left_out", {})
    rows: list[tuple[str, ...]] = [("split", "images", "captions", "labeled", "merged", "left out")]
    for name in dict.fromkeys([*store.meta.splits, *left_out]):
        sizes = (0, 0, 0)
        if name in store:
            split = store.split(name)
            sizes = len(split), len(split.texts), len(split.some_labels)
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in left_out.get(name, {}).items())
        counts = (*sizes, merged[name]) if name in merged else sizes
        rows.append((name, *(f"{count:,}" for count in counts), *["-"] * (4 - len(counts)), reasons or "-"))
    return rows


def _lengths(store: Store, name: str) -> str:
    split = store.split(name)
    said = f"{len(split.texts) / len(split):.2f} per image"
    if store.meta.features:
        return said
    lengths = np.argmax(split.texts == END, axis=1) + 1  # start and end included
    return f"{said}, tokens: mean {lengths.mean():.1f}, max {lengths.max()}"


def _losses(store: Store) -> Iterator[tuple[str, str]]:
    """What the builder could not keep, where it counts that."""
    source = store.meta.source
    if "truncated" in source:
        captions = sum(split.captions for split in store.meta.splits.values())
        fraction = f"{source['truncated'] / captions:.2%}"
        yield (
            "truncated",
            f"{source['truncated']:,} captions ({fraction}) longer than {store.meta.context_length} tokens",
        )
    for split, by_reason in source.get("unread", {}).items():
        for reason, names in by_reason.items():
            count = source["left_out"][split][reason]
            yield f"{split} left out", f"{count:,} {reason}: {', '.join(names[:_NAMED])}{', …' * (count > _NAMED)}"
    for split, count in source.get("other_label", {}).items():
        if count:
            yield f"{split} labels", f"{count:,} merged images had another label than the one that was kept"
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
