"""COCO captions files (Lin et al. 2014, arXiv:1405.0312) and the folders of their images."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from gaptune.data.images import inside
from gaptune.data.sources.base import Sample, Source, check_split_name, existing, read_text
from gaptune.data.sources.captions import caption_texts
from gaptune.data.sources.splits import canonical
from gaptune.errors import UserError, brief


@dataclass(frozen=True)
class _Annotations:
    """A captions file.

    Attributes:
        captions: Captions by file name, in the order of the file.
        without_image: Number of captions of images that the file does not list.
        listed_again: Number of images that it lists more than once.
    """

    captions: dict[str, list[str]]
    without_image: int
    listed_again: int


class Coco(Source):
    """Images and captions of COCO captions files.

    Args:
        annotations: Captions file by split.
        images: Folder of the images by split.
        outside: Whether images may lie outside that folder.

    Raises:
        UserError: A file or folder is missing or not what it should be.
    """

    kind = "coco"

    def __init__(self, annotations: Mapping[str, Path], images: Mapping[str, Path], *, outside: bool = False) -> None:
        self._outside = outside
        self._files = _checked(annotations, images)
        self._images = images
        self._contents = {split: _read(file) for split, file in annotations.items()}
        self.splits = tuple(annotations)

    @classmethod
    def at(cls, place: str) -> Self:
        """The source that ``coco:FOLDER`` means.

        ``FOLDER/annotations/captions_train2017.json`` with the images in ``FOLDER/train2017`` is ``train``, and so
        with other splits; the year may be lacking, and ``validation`` and the like are ``val``.

        Raises:
            UserError: No captions file has a folder of images beside it, or two are of the same split.
        """
        folder = existing(place, "folder")
        annotations: dict[str, Path] = {}
        images: dict[str, Path] = {}
        for file in sorted((folder / "annotations").glob("captions_*.json")):
            name = file.stem.removeprefix("captions_")
            split = canonical(name.rstrip("0123456789"))
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
            yield Sample(name, inside(self._images[split], name, outside=self._outside), tuple(captions))

    def count(self, split: str) -> int:
        """How many of a split's images have captions."""
        return sum(1 for captions in self._contents[split].captions.values() if captions)

    def left_out(self, split: str) -> Mapping[str, int]:
        """Images that the file lists again."""
        again = self._contents[split].listed_again
        return {"listed again": again} if again else {}

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
        content = json.loads(read_text(file))
    except json.JSONDecodeError as error:
        raise UserError(f"not JSON: {error.msg}", file=file, line=error.lineno) from None
    except RecursionError:
        raise UserError("not a COCO captions file: lists in lists without end", file=file) from None
    names: dict[int | str, str] = {}
    for image, name in _records(content, "images", {"id": _id, "file_name": _name}, file):
        if names.setdefault(image, name) != name:
            raise UserError(f"two images have the id {image!r}: {names[image]!r} and {name!r}", file=file)
    listed_again = len(content["images"]) - len(set(names.values()))
    captions: dict[str, list[str]] = {name: [] for name in names.values()}
    without_image = []
    for image, texts in _records(content, "annotations", {"image_id": _id, "caption": caption_texts}, file):
        if image in names:
            captions[names[image]] += texts
        else:
            without_image.append(image)
    if not any(captions.values()):
        hint = ""
        if without_image and names:
            ids = f"image_id {brief(without_image[0])}, id {brief(next(iter(names)))}"
            hint = f": no image_id is the id of an image ({ids})"
        raise UserError(f"none of its images has a caption{hint}", file=file)
    return _Annotations(captions, len(without_image), listed_again)


def _id(value: object) -> int | str:
    """An id, which may be a number in one place and a text or a float in another."""
    if isinstance(value, str):
        return int(value) if re.fullmatch("-?(0|[1-9][0-9]{0,17})", value) else value
    if isinstance(value, int | float) and not isinstance(value, bool) and value == int(value):
        return int(value)
    raise ValueError


def _name(value: object) -> str:
    if isinstance(value, str) and value:
        return value
    raise ValueError


def _records(
    content: Any, key: str, parsers: Mapping[str, Callable[[object], Any]], file: Path
) -> Iterator[tuple[Any, ...]]:
    """The named values of each record under a key."""
    if not isinstance(content, dict) or not isinstance(content.get(key), list):
        raise UserError(f"not a COCO captions file: it has no list {key!r}", file=file)
    for index, record in enumerate(content[key]):
        values = []
        for name, parse in parsers.items():
            try:
                values.append(parse(record[name]))
            except (KeyError, TypeError, ValueError, OverflowError):
                raise UserError(f"not a COCO captions file: {key}[{index}] has no usable {name!r}", file=file) from None
            except UserError as error:
                raise UserError(f"{key}[{index}]: {error.message}", file=file) from None
        yield tuple(values)
