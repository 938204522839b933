"""Folders of images by class, as torchvision's ``ImageFolder`` reads them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self

from gaptune.data.images import is_image
from gaptune.data.sources.base import Sample, Source, existing, storable
from gaptune.data.sources.labels import read_class_names, read_prompts
from gaptune.data.sources.patterns import files_below, is_leftover
from gaptune.data.sources.splits import folder_split
from gaptune.errors import UserError


class ImageFolder(Source):
    """``FOLDER/train/CLASS/*.jpg``, ``FOLDER/val/…``, ``FOLDER/test/…``; or ``FOLDER/CLASS/*.jpg``, which is ``test``.

    The folders of splits may have their other names, such as ``validation``. Classes are the sorted names of the
    folders, with spaces for underscores, unless ``FOLDER/classnames.txt`` names them in that order; prompts come from
    ``FOLDER/zeroshot_classification_templates.txt``, else open_clip's simple ones. Hidden folders and what archives
    leave behind are skipped; links to folders are entered. Files that are no images by their ending are counted.

    Args:
        folder: The folder.

    Raises:
        UserError: It has no classes, its splits have different ones, or a folder of images belongs to no split.
    """

    kind = "imagefolder"
    as_published = True

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        roots = _roots(folder)
        by_split = {split: [each.name for each in _folders(root)] for split, root in roots.items()}
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
        self._images: dict[str, list[tuple[Path, int]]] = {}
        self._others: dict[str, Counter[str]] = {}
        for split, root in roots.items():
            files = [(file, label) for label, name in enumerate(names) for file in files_below(root / name)]
            self._images[split] = [each for each in files if is_image(each[0])]
            others = [file.suffix.lower() for file, _ in files if not is_image(file)]
            self._others[split] = Counter(f"other file ({ending or 'no ending'})" for ending in others)
            beside = [each for each in root.iterdir() if is_image(each) and not each.is_dir()]
            if beside:
                self._others[split]["outside the class folders"] = len(beside)
        self.splits = tuple(by_split)
        self.classes = given or tuple(storable(name).replace("_", " ") for name in names)
        self.prompts = read_prompts(folder)

    @classmethod
    def at(cls, place: str) -> Self:
        """The source that ``imagefolder:PLACE`` means."""
        folder = existing(place, "folder")
        try:
            return cls(folder)
        except OSError as error:
            raise UserError(f"{error.filename} cannot be read: {error.strerror}") from None

    def samples(self, split: str) -> Iterator[Sample]:
        """Images by class, in the order of their names."""
        for file, label in self._images[split]:
            yield Sample(str(file.relative_to(self._folder)), file, label=label)

    def count(self, split: str) -> int:
        """How many images a split has."""
        return len(self._images[split])

    def left_out(self, split: str) -> Mapping[str, int]:
        """Files that are no images by their ending, and images that lie beside the class folders."""
        return self._others[split]

    def files(self) -> Iterable[Path]:
        """All images, and the texts beside them."""
        yield from self._folder.glob("*.txt")
        yield from (file for images in self._images.values() for file, _ in images)

    def origin(self) -> dict[str, Any]:
        """Its folder."""
        return {"folder": str(self._folder)}


def _roots(folder: Path) -> dict[str, Path]:
    """The folder of each split. A folder that is named like a split but has no folders is a class."""
    folders = _folders(folder)
    roots: dict[str, Path] = {}
    for each in folders:
        split = folder_split(each.name)
        if split is None or not _folders(each):
            continue
        if split in roots:
            raise UserError(f"{roots[split]} and {each} are both {split}: rename or move one of them")
        roots[split] = each
    for each in folders if roots else ():
        if each not in roots.values() and any(map(is_image, files_below(each))):
            raise UserError(
                f"{each} has images but belongs to no split, beside {', '.join(path.name for path in roots.values())}: "
                "name its split (train, val, test), or move it"
            )
    order = ("train", "val", "test")
    return {split: roots[split] for split in order if split in roots} or {"test": folder}


def _folders(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if path.is_dir() and not is_leftover(path.name))
