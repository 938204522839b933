"""What is in a store, in words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from gaptune.data.store.columns import FeatureMeta
from gaptune.data.store.reader import Store
from gaptune.data.tokens import END

_NAMED = 3  # images that are named for each reason
_SAMPLED = 2**14  # features that are looked at
_ROUNDING = 2e-3  # by which a length of 1 may differ in float16
_CENTERED = 0.02  # length of a mean, in lengths of features: a sample's is below 0.01 by chance


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
        *(_features(store, meta.features) if meta.features else _sizes(store)),
        *((f"{name} captions", _lengths(store, name)) for name in meta.splits),
        *([] if meta.features else [("vocabulary", f"{len(meta.vocabulary):,} tokens")]),
        ("classes", ", ".join(meta.classes) or "none"),
        *_losses(store),
        *_towers(store),
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


def _sizes(store: Store) -> Iterator[tuple[str, str]]:
    meta = store.meta
    yield "image size", f"{meta.image_size} x {meta.image_size} pixels"
    yield "context length", f"{meta.context_length} tokens"


def _features(store: Store, features: FeatureMeta) -> Iterator[tuple[str, str]]:
    """What the features are: those of ``train``, or of the first split; of many, a part evenly spread."""
    split = store.split("train" if "train" in store else next(iter(store.meta.splits)))
    images = split.gather(_spread(len(split)))
    yield "image features", f"{features.image:,} numbers ({features.dtype}), {_described(images)}"
    prompts = store.prompt_features()
    texts = split.texts[_spread(len(split.texts))]
    if not len(texts) and prompts is not None:
        texts = prompts.reshape(-1, features.text)
    said = f", {_described(texts)}" if len(texts) else ""
    yield "text features", f"{features.text:,} numbers ({features.dtype}){said}"
    if prompts is not None:
        yield "prompt features", f"{prompts.shape[1]:,} for each of {prompts.shape[0]:,} classes"
    source = store.meta.source
    done = ["normalized"] * bool(source.get("normalize")) + ["training mean subtracted"] * bool(source.get("center"))
    if done:
        yield "treatment", ", ".join(done)


def _described(features: npt.NDArray[Any]) -> str:
    """The lengths of some features, and the length of their mean."""
    values = features.astype(np.float64)
    lengths = np.sqrt((values * values).sum(axis=1))
    low, high = lengths.min(), lengths.max()
    unit = max(high - 1, 1 - low) < _ROUNDING
    length = f"{lengths.mean():.3f}" if unit else f"{low:.3g} to {high:.3g} (not normalized)"
    mean = float(np.linalg.norm(values.mean(axis=0)))
    centered = "centered" if mean < _CENTERED * lengths.mean() else "not centered"
    return f"length {length}, mean {mean:.2f} long: {centered}"


def _spread(rows: int) -> npt.NDArray[np.int64]:
    return np.unique(np.linspace(0, rows - 1, min(rows, _SAMPLED)).astype(np.int64))


def _lengths(store: Store, name: str) -> str:
    split = store.split(name)
    if not len(split.texts):
        return "none"
    said = f"{len(split.texts) / len(split):.2f} per image"
    if store.meta.features:
        counts = np.diff(split.offsets)
        return said if counts.min() == counts.max() else f"{said} ({counts.min():,} to {counts.max():,})"
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


def _towers(store: Store) -> Iterator[tuple[str, str]]:
    """The towers that features are from, where gaptune computed them."""
    for modality in ("image", "text"):
        tower = store.meta.source.get(f"{modality}_tower")
        if tower is not None:
            yield f"{modality} tower", f"{tower['tower']} (weights {tower['weights'][:12]})"


def _origin(store: Store) -> str:
    source = store.meta.source
    places = source.get("annotations") or source.get("files") or source.get("folder") or source.get("file")
    places = places or source.get("store")
    if isinstance(places, dict):
        places = ", ".join(f"{split}={place}" for split, place in places.items())
    versions = ", ".join(f"{package} {number}" for package, number in source.get("versions", {}).items())
    made_by = str(source.get("builder", "unknown"))
    return made_by + (f" from {places}" if places else "") + (f" ({versions})" if versions else "")
