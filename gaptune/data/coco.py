"""Stores from COCO captions files (Lin et al. 2014, arXiv:1405.0312) and the folders of their images."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from gaptune.data.store import Store, StoreWriter
from gaptune.data.tokens import encode, tokenize
from gaptune.errors import UserError

_NAMED = 100  # broken images that store.json names
_NAMED_IN_ERROR = 3
_AT_ONCE = 256  # images held between decoding and writing

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class _Annotations:
    """A captions file.

    Attributes:
        captions: Captions by file name, in the order of the file.
        without_captions: Images that have none and are left out.
        without_image: Captions of images that the file does not list.
    """

    captions: dict[str, list[str]]
    without_captions: int
    without_image: int


def build_coco(
    *,
    annotations: Mapping[str, Path],
    images: Mapping[str, Path],
    out: Path,
    image_size: int,
    context_length: int,
    max_broken: float,
    progress: Callable[[int, int], None],
) -> Store:
    """Builds a store from COCO captions files.

    The shorter side of each image is resized to ``image_size`` (bicubic) and the middle is kept. Images that
    are missing or cannot be read are skipped and counted, as are images without captions.

    Args:
        annotations: Captions file by split; ``train`` and ``val`` are needed.
        images: Folder of the images by split.
        out: The folder to make.
        image_size: Side of the stored squares in pixels.
        context_length: Token ids per caption, start and end included; longer captions are cut and counted.
        max_broken: Share of missing or unreadable images, from 0 to 1, above which nothing is built.
        progress: Called with the number of images done and their total over all splits.

    Raises:
        UserError: A file or folder is missing or not what it should be, ``out`` exists, or too many images
            are missing or broken.
    """
    contents = {split: _read(file) for split, file in _checked(annotations, images).items()}
    total = sum(len(content.captions) for content in contents.values())
    done = truncated = 0
    skipped: list[str] = []
    with StoreWriter(out, image_size, context_length) as writer:
        for split, content in contents.items():
            broken = []
            for name, pixels in _decoded(images[split], list(content.captions), image_size):
                done += 1
                progress(done, total)
                if pixels is None:
                    broken.append(name)
                    continue
                captions = content.captions[name]
                truncated += sum(len(encode(caption)) > context_length - 2 for caption in captions)
                writer.add(split, pixels, captions, tokenize(captions, context_length), id=name)
            _check_share(split, broken, len(content.captions), max_broken)
            skipped += [f"{split}/{name}" for name in broken]
        return writer.finish(
            name=out.name,
            source={
                "builder": "coco",
                "annotations": {split: str(file) for split, file in annotations.items()},
                "images": {split: str(folder) for split, folder in images.items()},
                "max_broken": max_broken,
                "versions": {package: version(package) for package in ("pillow", "open_clip_torch")},
                "broken": len(skipped),
                "skipped": skipped[:_NAMED],
                "without_captions": sum(content.without_captions for content in contents.values()),
                "without_image": sum(content.without_image for content in contents.values()),
                "truncated": truncated,
            },
        )


def _checked(annotations: Mapping[str, Path], images: Mapping[str, Path]) -> Mapping[str, Path]:
    for split in dict.fromkeys(["train", "val", *annotations, *images]):
        for given, what in ((annotations, "annotations"), (images, "images")):
            if split not in given:
                raise UserError(f"there are no {what} for the split {split!r} (--{what} {split}=...)")
        if not split.isidentifier():  # it names the split's file
            raise UserError(f"{split!r} cannot name a split: use letters, digits and _")
        if not images[split].is_dir():
            raise UserError(f"there is no folder {images[split]} (--images {split}=...)")
    return annotations


def _read(file: Path) -> _Annotations:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except json.JSONDecodeError as fault:
        raise UserError(f"not JSON: {fault.msg}", file=file, line=fault.lineno) from None
    except UnicodeDecodeError:
        raise UserError("not JSON: not in UTF-8", file=file) from None
    except OSError as fault:
        raise UserError(f"cannot be read: {fault.strerror}", file=file) from None
    listed = _records(content, "images", {"id": (int, str), "file_name": str}, file)
    names = {image: _storable(name) for image, name in listed}
    if len(names) != len(content["images"]) or len(set(names.values())) != len(names):
        raise UserError("two of its images have the same id or file_name", file=file)
    captions: dict[str, list[str]] = {name: [] for name in names.values()}
    without_image = 0
    for image, caption in _records(content, "annotations", {"image_id": (int, str), "caption": str}, file):
        if image not in names:
            without_image += 1
        elif caption.strip():
            captions[names[image]].append(_storable(caption))
    kept = {name: texts for name, texts in captions.items() if texts}
    if not kept:
        raise UserError("none of its images has a caption", file=file)
    return _Annotations(kept, len(captions) - len(kept), without_image)


def _records(
    content: Any, key: str, types: dict[str, type | tuple[type, ...]], file: Path
) -> Iterator[tuple[Any, ...]]:
    """The named values of each record under a key."""
    if not isinstance(content, dict) or not isinstance(content.get(key), list):
        raise UserError(f"not a COCO captions file: it has no list {key!r}", file=file)
    for index, record in enumerate(content[key]):
        for name, allowed in types.items():
            if not isinstance(record, dict) or not isinstance(record.get(name), allowed):
                raise UserError(f"not a COCO captions file: {key}[{index}] has no usable {name!r}", file=file)
        yield tuple(record[name] for name in types)


def _storable(text: str) -> str:
    """A text as UTF-8 can hold it: JSON can escape half a surrogate pair."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _decoded(folder: Path, names: list[str], side: int) -> Iterator[tuple[str, Pixels | None]]:
    """Images in the order of their names; None for those that cannot be read. Few are held at a time."""
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for start in range(0, len(names), _AT_ONCE):
            batch = names[start : start + _AT_ONCE]
            yield from zip(batch, pool.map(lambda name: _decode(folder / name, side), batch), strict=True)


def _decode(path: Path, side: int) -> Pixels | None:
    try:
        with Image.open(path) as image:
            image.draft("RGB", (2 * side, 2 * side))  # lets JPEG be decoded at a fraction of its size
            square = ImageOps.fit(image.convert("RGB"), (side, side), Image.Resampling.BICUBIC)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):  # SyntaxError: broken PNG chunks
        return None
    return np.asarray(square)


def _check_share(split: str, broken: list[str], total: int, most: float) -> None:
    if len(broken) > most * total or len(broken) == total:
        named = ", ".join(broken[:_NAMED_IN_ERROR]) + (", ..." if len(broken) > _NAMED_IN_ERROR else "")
        raise UserError(
            f"{len(broken)} of {total} {split} images are missing or broken (--max-broken allows {most:.2%}): {named}"
        )
