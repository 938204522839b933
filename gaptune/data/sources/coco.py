"""COCO captions files (Lin et al. 2014, arXiv:1405.0312) and the folders of their images."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gaptune.data.sources.base import Sample, Source, check_split_name, existing, storable
from gaptune.errors import UserError


@dataclass(frozen=True)
class _Annotations:
    """A captions file.

    Attributes:
        captions: Captions by file name, in the order of the file.
        without_image: Captions of images that the file does not list.
    """

    captions: dict[str, list[str]]
    without_image: int


class Coco(Source):
    """Images and captions of COCO captions files.

    Args:
        annotations: Captions file by split.
        images: Folder of the images by split.

    Raises:
        UserError: A file or folder is missing or not what it should be.
    """

    kind = "coco"

    def __init__(self, annotations: Mapping[str, Path], images: Mapping[str, Path]) -> None:
        self._files = _checked(annotations, images)
        self._images = images
        self._contents = {split: _read(file) for split, file in annotations.items()}
        self.splits = tuple(annotations)

    @classmethod
    def at(cls, place: str) -> Coco:
        """The source that ``coco:FOLDER`` means.

        ``FOLDER/annotations/captions_train2017.json`` with the images in ``FOLDER/train2017`` is ``train``, and so
        with other splits; the year may be lacking.

        Raises:
            UserError: No captions file has a folder of images beside it, or two are of the same split.
        """
        folder = existing(place, "folder")
        annotations: dict[str, Path] = {}
        images: dict[str, Path] = {}
        for file in sorted((folder / "annotations").glob("captions_*.json")):
            name = file.stem.removeprefix("captions_")
            split = name.rstrip("0123456789")
            if (folder / name).is_dir():
                if split in annotations:
                    raise UserError(f"{folder} has two sets of {split}: use `gaptune data build coco` to say which")
                annotations[split], images[split] = file, folder / name
        if not annotations:
            raise UserError(f"{folder} is not laid out as COCO (expected annotations/captions_SPLIT.json and SPLIT/)")
        return cls(annotations, images)

    def samples(self, split: str) -> Iterator[Sample]:
        """Images in the order of the file, with all their captions."""
        for name, captions in self._contents[split].captions.items():
            yield Sample(name, self._images[split] / name, tuple(captions))

    def count(self, split: str) -> int:
        """How many of a split's images have captions."""
        return sum(1 for captions in self._contents[split].captions.values() if captions)

    def files(self) -> Iterable[Path]:
        """The captions files and all images that they name."""
        yield from self._files.values()
        yield from (self._images[split] / name for split in self.splits for name in self._contents[split].captions)

    def origin(self) -> dict[str, Any]:
        """Files, folders, and how many captions were without an image."""
        return {
            "annotations": {split: str(file) for split, file in self._files.items()},
            "images": {split: str(folder) for split, folder in self._images.items()},
            "without_image": sum(content.without_image for content in self._contents.values()),
        }


def _checked(annotations: Mapping[str, Path], images: Mapping[str, Path]) -> Mapping[str, Path]:
    for split in dict.fromkeys([*annotations, *images]):
        for given, what in ((annotations, "annotations"), (images, "images")):
            if split not in given:
                raise UserError(f"there are no {what} for the split {split!r} (--{what} {split}=...)")
        check_split_name(split)
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
    names = {image: storable(name) for image, name in listed}
    if len(names) != len(content["images"]) or len(set(names.values())) != len(names):
        raise UserError("two of its images have the same id or file_name", file=file)
    captions: dict[str, list[str]] = {name: [] for name in names.values()}
    without_image = 0
    for image, caption in _records(content, "annotations", {"image_id": (int, str), "caption": str}, file):
        if image not in names:
            without_image += 1
        elif caption.strip():
            captions[names[image]].append(storable(caption))
    if not any(captions.values()):
        raise UserError("none of its images has a caption", file=file)
    return _Annotations(captions, without_image)


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
