"""WebDataset, as open_clip and clip_benchmark use it: tar files in which the members of a sample share a name."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from gaptune.data.sources.base import Sample, Source, storable
from gaptune.data.sources.labels import CLASS_NAMES, TEMPLATES, read_class_names, read_prompts
from gaptune.data.sources.patterns import files_by_split
from gaptune.errors import UserError

_IMAGES = ("jpg", "jpeg", "png", "webp")
_TYPE = "dataset_type.txt"  # clip_benchmark marks its sets for retrieval so


class WebDataset(Source):
    """Shards by split.

    Of each sample the image is its member ``jpg``, ``jpeg``, ``png`` or ``webp``. Its captions are the lines of
    ``txt``; without one, ``caption`` or ``captions`` of ``json``. Its label is ``cls``, an index into
    ``classnames.txt``, which lies beside the shards or one folder above, as does
    ``zeroshot_classification_templates.txt``. With ``classnames.txt`` or ``dataset_type.txt`` it is one of
    clip_benchmark's sets and kept as published.

    Args:
        shards: Tar files by split, in their order.

    Raises:
        UserError: Class names or templates are not what they should be.
    """

    kind = "webdataset"

    def __init__(self, shards: Mapping[str, Sequence[Path]]) -> None:
        self._shards = shards
        self.splits = tuple(shards)
        first = next(iter(shards.values()))[0]
        folders = (first.parent, first.parent.parent)
        self._beside = [folder / name for folder in folders for name in (CLASS_NAMES, TEMPLATES, _TYPE)]
        self._beside = [file for file in self._beside if file.exists()]
        self.as_published = any(file.name in (CLASS_NAMES, _TYPE) for file in self._beside)
        labelled = [file.parent for file in self._beside if file.name == CLASS_NAMES]
        if labelled:
            self.classes = read_class_names(labelled[0]) or ()
            self.prompts = read_prompts(labelled[0])

    @classmethod
    def at(cls, *places: str) -> WebDataset:
        """The source that ``webdataset:GLOB`` means; a folder stands for its shards."""
        return cls(files_by_split(places, ".tar"))

    def samples(self, split: str) -> Iterator[Sample]:
        """Samples in the order of the shards."""
        for shard in self._shards[split]:
            for key, members in _grouped(shard):
                image = next((members[form] for form in _IMAGES if form in members), b"")  # b"" counts as missing
                captions = _captions(shard, key, members)
                yield Sample(key, image, captions, self._label(shard, key, members, captions))

    def count(self, split: str) -> None:
        """Not known before the shards are read."""

    def files(self) -> Iterable[Path]:
        """The shards, and the texts beside them."""
        yield from self._beside
        for shards in self._shards.values():
            yield from shards

    def origin(self) -> dict[str, Any]:
        """The first and last shard of each split."""
        return {"files": {split: _span(shards) for split, shards in self._shards.items()}}

    def _label(self, shard: Path, key: str, members: Mapping[str, bytes], captions: tuple[str, ...]) -> int | None:
        if "cls" not in members or (captions and not self.classes):
            return None
        if not self.classes:
            raise UserError(f"samples have labels, but there is no {CLASS_NAMES} beside them", file=shard)
        text = members["cls"].strip()
        if not text.isdigit() or int(text) >= len(self.classes):
            raise UserError(f"{key}.cls is {text[:20]!r}, not an index into {len(self.classes)} classes", file=shard)
        return int(text)


def _grouped(shard: Path) -> Iterator[tuple[str, dict[str, bytes]]]:
    """The samples of a shard: neighbours that share a name up to its first dot, with their members by ending."""
    key, members = "", dict[str, bytes]()
    try:
        with tarfile.open(shard, "r|*") as tar:
            for member in tar:
                folder, slash, name = member.name.removeprefix("./").rpartition("/")
                stem, dot, ending = name.partition(".")
                if not member.isfile() or not stem or not dot:
                    continue
                if (at := folder + slash + stem) != key:
                    if members:
                        yield key, members
                    key, members = at, {}
                content = tar.extractfile(member)
                members[ending.lower()] = content.read() if content else b""
    except (tarfile.TarError, EOFError, OSError) as fault:
        raise UserError(f"cannot be read as a tar file: {fault}", file=shard) from None
    if members:
        yield key, members


def _captions(shard: Path, key: str, members: Mapping[str, bytes]) -> tuple[str, ...]:
    if "txt" in members:
        return tuple(members["txt"].decode("utf-8", "replace").splitlines())
    if "json" not in members:
        return ()
    try:
        content = json.loads(members["json"])
    except ValueError as fault:
        raise UserError(f"{key}.json is not JSON: {fault}", file=shard) from None
    found = (content.get("captions") or content.get("caption")) if isinstance(content, dict) else None
    texts = [found] if isinstance(found, str) else found or []
    return tuple(storable(text) for text in texts if isinstance(text, str))


def _span(shards: Sequence[Path]) -> str:
    return str(shards[0]) if len(shards) == 1 else f"{shards[0]} to {shards[-1].name}"
