"""Stores of features from files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gaptune.data.build import IN_VAL, NO_CAPTION, VAL_FRACTION
from gaptune.data.embeddings.classes import read_labels
from gaptune.data.embeddings.order import Arranged, arrange
from gaptune.data.embeddings.places import Place
from gaptune.data.embeddings.reading import Reading, read_split
from gaptune.data.embeddings.request import Request
from gaptune.data.embeddings.rows import Rows, open_rows
from gaptune.data.embeddings.treatment import AT_ONCE, Treatment
from gaptune.data.sources.splits import TRAIN, VAL
from gaptune.data.store.columns import FeatureMeta
from gaptune.data.store.reader import Store
from gaptune.data.store.writer import StoreWriter
from gaptune.errors import UserError

NO_IMAGE, REPEATED = "text without an image", "repeated text"
"""Why a text is left out, as ``store.json`` counts it."""

_IN_ORDER = "pairs"
"""The split whose rows 2k and 2k + 1 belong together: it keeps their order."""


def build_embeddings(
    request: Request, *, out: Path, progress: Callable[[int, int | None], None] = lambda done, total: None
) -> Store:
    """Builds a store of features from files.

    Rows are stored in an order that depends on features, pairs and labels alone. So the same features give the same
    content hash and the same training, whatever the format of the files, the order of their rows, and their keys.

    Args:
        request: The files, and what is done with them.
        out: Folder to create.
        progress: Called with the number of images written and their total.

    Raises:
        UserError: A file is not what it should be, files do not fit each other, or ``out`` exists.
    """
    request.check()
    readings = {split: read_split(request, split) for split in request.image}
    prompts = None if request.prompts is None else open_rows([request.prompts], "text")
    features = _features(readings, prompts)
    with StoreWriter(out, features=features) as writer:
        rows = {split: len(reading.images) for split, reading in readings.items()}
        classes, labels = read_labels(request.labels, rows, request.classes)
        counts: dict[str, Counter[str]] = {split: Counter() for split in readings}
        arranged = {
            split: _arranged(split, reading, labels.get(split), features.dtype, counts[split])
            for split, reading in readings.items()
        }
        _separate(arranged, _val_fraction(request, arranged), counts)
        treatment = request.treated_as or Treatment(request.normalize)
        treatment.check(features)
        if request.center:
            treatment = treatment.centered(_training(readings[TRAIN], arranged[TRAIN]), features.dtype)
        prompt_features = _prompts(prompts, request.prompts, classes, treatment, features.dtype)
        total, done = sum(len(each.images) for each in arranged.values()), 0
        for split, each in arranged.items():
            reading = readings[TRAIN if split not in readings else split]
            for images in _write(writer, split, reading, each, treatment, features.dtype):
                done += images
                progress(done, total)
        return writer.finish(
            name=out.name,
            source={
                "builder": "embeddings",
                "files": {split: _named(reading) for split, reading in readings.items()},
                **treatment.described(),
                "merged": {split: each.pop("merged", 0) for split, each in counts.items()},
                "left_out": {split: dict(each) for split, each in counts.items()},
            },
            classes=classes,
            prompt_features=prompt_features,
        )


def _features(readings: Mapping[str, Reading], prompts: Rows | None) -> FeatureMeta:
    """The widths and the dtype of all features together.

    Raises:
        UserError: Two of one modality have different widths.
    """
    images = {split: reading.images for split, reading in readings.items()}
    texts = {split: reading.texts for split, reading in readings.items() if reading.texts is not None}
    texts |= {} if prompts is None else {"prompts": prompts}
    widths = {}
    for modality, rows in (("image", images), ("text", texts)):
        first, *others = rows.items()
        for split, each in others:
            if each.width != first[1].width:
                raise UserError(
                    f"{split} has {modality} features of {each.width} numbers ({each}), "
                    f"{first[0]} of {first[1].width}: two different towers"
                )
        widths[modality] = first[1].width
    half = all(each.dtype == np.float16 for each in (*images.values(), *texts.values()))
    return FeatureMeta(widths["image"], widths["text"], "float16" if half else "float32")


def _arranged(
    split: str, reading: Reading, labels: npt.NDArray[np.int64] | None, dtype: str, counts: Counter[str]
) -> Arranged:
    images = reading.images.hashes(dtype)
    texts = np.empty(0, "S16") if reading.texts is None else reading.texts.hashes(dtype)
    in_order = split == _IN_ORDER
    found = arrange(images, texts, reading.pairs, labels, published=labels is not None or in_order)
    if in_order:
        found = found.of(np.argsort(found.images))
    distinct = len(images) if labels is not None or in_order else len(np.unique(images))
    left_out = {
        NO_CAPTION: distinct - len(found.images),
        NO_IMAGE: reading.unmatched,
        REPEATED: len(reading.pairs[1]) - len(found.texts),
        "merged": len(images) - distinct,
    }
    counts.update({reason: count for reason, count in left_out.items() if count})
    if not len(found.images):
        raise UserError(f"{split} has no image with a text")
    return found


def _val_fraction(request: Request, arranged: Mapping[str, Arranged]) -> float:
    if request.val_fraction is not None or TRAIN not in arranged:
        return request.val_fraction or 0.0
    return VAL_FRACTION if VAL not in arranged and arranged[TRAIN].labels is None else 0.0


def _separate(arranged: dict[str, Arranged], val_fraction: float, counts: dict[str, Counter[str]]) -> None:
    """Takes ``val`` from ``train`` where it is asked for, and images of ``val`` out of ``train``.

    Raises:
        UserError: There would be a single image in ``val``, or none in ``train``.
    """
    if val_fraction:
        mask = arranged[TRAIN].fraction(val_fraction)
        arranged[VAL], arranged[TRAIN] = arranged[TRAIN].of(mask), arranged[TRAIN].of(~mask)
    elif TRAIN in arranged and VAL in arranged and arranged[TRAIN].labels is None:
        again = np.isin(arranged[TRAIN].hashes, arranged[VAL].hashes)
        arranged[TRAIN] = arranged[TRAIN].of(~again)
        if again.any():
            counts[TRAIN][IN_VAL] += int(again.sum())
    if VAL in arranged and len(arranged[VAL].images) < 2:
        number = len(arranged[VAL].images)
        raise UserError(f"val has {number} image{'s' * (number != 1)}: metrics of pairs need two; use --val-fraction")
    if TRAIN in arranged and not len(arranged[TRAIN].images):
        raise UserError("train has no images beside those of val")


def _training(reading: Reading, found: Arranged) -> dict[str, tuple[Rows, npt.NDArray[np.int64]]]:
    """The training features of each modality, for their means."""
    assert reading.texts is not None, "checked with the request"
    return {"image": (reading.images, found.images), "text": (reading.texts, found.texts)}


def _write(
    writer: StoreWriter, split: str, reading: Reading, found: Arranged, treatment: Treatment, dtype: str
) -> Iterator[int]:
    """Writes a split in blocks; gives the number of images of each."""
    for first in range(0, len(found.images), AT_ONCE):
        rows = found.images[first : first + AT_ONCE]
        bounds = found.offsets[first : first + len(rows) + 1]
        chosen = found.texts[bounds[0] : bounds[-1]]
        images = treatment.apply(reading.images.gather(rows, dtype), "image")
        texts = np.empty((0, 0), dtype)
        if reading.texts is not None:
            texts = treatment.apply(reading.texts.gather(chosen, dtype), "text")
        for number, row in enumerate(rows.tolist()):
            own = slice(bounds[number] - bounds[0], bounds[number + 1] - bounds[0])
            captions = [reading.caption(text) for text in chosen[own].tolist()]
            label = None if found.labels is None else int(found.labels[first + number])
            writer.add(split, images[number], captions, texts[own], id=reading.id(row), label=label)
        yield len(rows)


def _prompts(
    rows: Rows | None, place: Place | None, classes: tuple[str, ...], treatment: Treatment, dtype: str
) -> npt.NDArray[Any] | None:
    """Features of class prompts, shape (classes, templates, width).

    Raises:
        UserError: Their number is not a multiple of that of the classes, or a row is not finite.
    """
    if rows is None or place is None:
        return None
    if not classes or len(rows) % len(classes):
        raise UserError(f"has {len(rows)} rows, not a multiple of the {len(classes)} classes", file=place.path)
    rows.hashes(dtype)
    treated = treatment.apply(rows.gather(np.arange(len(rows)), dtype), "text")
    return treated.reshape(len(classes), -1, rows.width)


def _named(reading: Reading) -> str:
    return str(reading.images) if reading.texts is None else f"{reading.images} + {reading.texts}"
