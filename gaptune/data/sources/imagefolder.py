"""Folders of images by class, as torchvision's ``ImageFolder`` reads them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from gaptune.data.sources.base import IMAGES, Sample, Source, existing
from gaptune.data.sources.labels import read_class_names, read_prompts
from gaptune.errors import UserError

SPLITS = ("train", "val", "test")


class ImageFolder(Source):
    """``FOLDER/train/CLASS/*.jpg``, ``FOLDER/val/…``, ``FOLDER/test/…``; or ``FOLDER/CLASS/*.jpg``, which is ``test``.

    Classes are the sorted names of the folders, with spaces for underscores, unless ``FOLDER/classnames.txt`` names
    them in that order; prompts come from ``FOLDER/zeroshot_classification_templates.txt``, else open_clip's simple
    ones.

    Args:
        folder: The folder.

    Raises:
        UserError: It has no classes, or its splits have different ones.
    """

    kind = "imagefolder"
    as_published = True

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        roots = {name: folder / name for name in SPLITS if (folder / name).is_dir()} or {"test": folder}
        by_split = {name: _folders(root) for name, root in roots.items()}
        names = sorted({name for folders in by_split.values() for name in folders})
        if not names:
            raise UserError(f"{folder} has no class folders (expected train/CLASS/*.jpg, test/…, or CLASS/*.jpg)")
        for split, folders in by_split.items():
            if set(folders) != set(names):
                lacking = sorted(set(names) - set(folders))
                raise UserError(f"{roots[split]} lacks class folders that other splits have: {', '.join(lacking[:3])}")
        given = read_class_names(folder)
        if given is not None and len(given) != len(names):
            raise UserError(f"{folder} has {len(names)} class folders, but classnames.txt names {len(given)}")
        self._images = {
            split: [(file, label) for label, name in enumerate(names) for file in _images(roots[split] / name)]
            for split in by_split
        }
        self.splits = tuple(by_split)
        self.classes = given or tuple(name.replace("_", " ") for name in names)
        self.prompts = read_prompts(folder)

    @classmethod
    def at(cls, place: str) -> ImageFolder:
        """The source that ``imagefolder:PLACE`` means."""
        return cls(existing(place, "folder"))

    def samples(self, split: str) -> Iterator[Sample]:
        """Images by class, in the order of their names."""
        for file, label in self._images[split]:
            yield Sample(str(file.relative_to(self._folder)), file, label=label)

    def count(self, split: str) -> int:
        """How many images a split has."""
        return len(self._images[split])

    def files(self) -> Iterable[Path]:
        """All images, and the texts beside them."""
        yield from self._folder.glob("*.txt")
        yield from (file for images in self._images.values() for file, _ in images)

    def origin(self) -> dict[str, Any]:
        """Its folder."""
        return {"folder": str(self._folder)}


def _folders(root: Path) -> list[str]:
    return [path.name for path in root.iterdir() if path.is_dir()]


def _images(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGES)
