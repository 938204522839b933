"""Stores of the features of frozen towers, computed once from a store of images and captions."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gaptune.data import FeatureMeta, Store, StoreWriter
from gaptune.errors import UserError
from gaptune.storage.atomic import replacing
from gaptune.storage.lock import HeldError, acquire
from gaptune.towers.rows import Halves, Rows
from gaptune.towers.tower import Tower

_BATCH = 128
_BEGUN = "towers.json"

Bar = Callable[[str], AbstractContextManager[Callable[[int, int], None]]]
"""Shows the progress of one kind of input: its name, then the number done and the total."""


def partial_folder(out: Path) -> Path:
    """The folder in which features are kept until all are there."""
    return out.with_name(f"{out.name}.partial-features")


def build_features(store: Store, image: Tower, text: Tower, *, out: Path, bar: Bar, **source: Any) -> Store:
    """Computes the features of every image, caption and class prompt of a store.

    Features are written in float16. An interrupted run is continued by the same call: what has been computed is in
    ``partial_folder(out)``, with the names of store and towers.

    Args:
        store: Images and captions.
        image: Image tower.
        text: Text tower; equal texts are encoded once.
        out: The store to make.
        bar: Shows progress.
        source: Further entries for the store's ``source``.

    Raises:
        UserError: The store holds features, ``out`` exists, features are not finite, or the partial folder belongs to
            another store or other towers, or to a running process.
    """
    if store.meta.features:
        raise UserError(f"{store.path} holds features already")
    if out.exists():
        raise UserError(f"{out} exists; remove it or give another --out")
    towers = {"image_tower": image.describe(), "text_tower": text.describe()}
    about = {
        "builder": "features",
        "of": store.meta.content_hash,
        "store": store.meta.name,
        "image_size": store.meta.image_size,
        **towers,
        **source,
    }
    with _continued(out, about) as folder:
        texts = _texts(store)
        encoded = Rows(folder / "texts.f16", text.width)
        with bar("captions") as show:
            for done in _encode(text, encoded, len(texts), lambda rows: [texts[row] for row in rows]):
                show(done, len(texts))
        images = {name: Rows(folder / f"{name}.f16", image.width) for name in store.meta.splits}
        before, total = 0, sum(split.images for split in store.meta.splits.values())
        with bar("images") as show:
            for name, rows in images.items():
                split = store.split(name)
                for done in _encode(image, rows, len(split), split.gather):
                    show(before + done, total)
                before += len(split)
        made = _assemble(store, texts, encoded.read(), {name: rows.read() for name, rows in images.items()}, out, about)
    shutil.rmtree(folder, ignore_errors=True)
    return made


@contextmanager
def _continued(out: Path, about: dict[str, Any]) -> Iterator[Path]:
    """The partial folder, locked, new or begun with the same towers on the same store."""
    folder = partial_folder(out)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        lock = acquire(folder / "lock")
    except HeldError as error:
        raise UserError(f"{error} is computing {out} already") from None
    try:
        begun, content = folder / _BEGUN, json.dumps(about, indent=1, sort_keys=True)
        if not begun.exists():
            with replacing(begun) as file:
                file.write_text(content, encoding="utf-8")
        elif begun.read_text(encoding="utf-8") != content:
            other = json.loads(begun.read_text(encoding="utf-8"))
            towers = " and ".join(other[f"{modality}_tower"]["tower"] for modality in ("image", "text"))
            raise UserError(
                f"{folder} was begun with other data, towers, or versions ({towers} on {other['store']}); remove it or "
                "give another --out"
            )
        yield folder
    finally:
        lock.release()


def _texts(store: Store) -> list[str]:
    """Each text of a store once, the longest first: batches then have little padding, and the last are fast."""
    found = {prompt.format(name) for name in store.meta.classes for prompt in store.meta.prompts}
    for name in store.meta.splits:
        split = store.split(name)
        for row in range(len(split)):
            found.update(split.captions(row))
    return sorted(found, key=lambda text: (-len(text), text))


def _encode(tower: Tower, rows: Rows, count: int, take: Callable[[npt.NDArray[np.int64]], Any]) -> Iterator[int]:
    """Computes the features that are not there yet; yields how many are."""
    yield rows.done
    while rows.done < count:
        features = tower.encode(take(np.arange(rows.done, min(rows.done + _BATCH, count))))
        with np.errstate(over="ignore"):
            halves = features.astype(np.float16)
        if not np.isfinite(halves).all():
            raise UserError(f"{tower.reference} gives {tower.modality} features that float16 cannot hold")
        rows.append(halves)
        yield rows.done


def _assemble(
    store: Store, texts: Sequence[str], encoded: Halves, images: dict[str, Halves], out: Path, about: dict[str, Any]
) -> Store:
    """Writes the store from all features."""
    at = {text: row for row, text in enumerate(texts)}
    meta = store.meta
    with StoreWriter(out, features=FeatureMeta(image=about["image_tower"]["width"], text=encoded.shape[1])) as writer:
        for name in meta.splits:
            split = store.split(name)
            for row, (id_, features) in enumerate(zip(split.ids, images[name], strict=True)):
                captions = split.captions(row)
                own = encoded[[at[caption] for caption in captions]]
                writer.add(name, features, captions, own, id=id_, label=split.label(row))
        prompts = None
        if meta.classes and meta.prompts:
            rows = [[at[prompt.format(name)] for prompt in meta.prompts] for name in meta.classes]
            prompts = encoded[rows]
        return writer.finish(
            name=f"{meta.name} features",
            source=about,
            classes=meta.classes,
            prompts=meta.prompts,
            prompt_features=prompts,
        )
