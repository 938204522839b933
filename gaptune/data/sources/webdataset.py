"""WebDataset, as open_clip and clip_benchmark use it: tar files in which the members of a sample share a name."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from gaptune.data.images import ENDINGS, UnreadableError
from gaptune.data.sources.base import Sample, Source, storable
from gaptune.data.sources.captions import caption_texts
from gaptune.data.sources.labels import CLASS_NAMES, TEMPLATES, Classes, normal_label, read_class_names, read_prompts
from gaptune.data.sources.patterns import files_by_split
from gaptune.data.sources.tar import Member, members_of
from gaptune.errors import UserError

_IMAGES = tuple(ending.removeprefix(".") for ending in ENDINGS)
_TYPE = "dataset_type.txt"  # clip_benchmark marks its sets for retrieval so
_NAMED = 8  # endings in an error

_log = logging.getLogger(__name__)

_Members = dict[str, bytes | UnreadableError]


class WebDataset(Source):
    """Shards by split.

    Of each sample the image is its member with the ending of an image. Its captions are the lines of ``txt``, which
    are one caption where ``caption`` of ``json`` is the same text; without ``txt``, ``caption`` or ``captions`` of
    ``json``. Its label is ``cls``, an index into ``classnames.txt`` or one of its names. That file lies beside the
    shards or one folder above, as does ``zeroshot_classification_templates.txt``. With ``classnames.txt`` or
    ``dataset_type.txt`` it is one of clip_benchmark's sets and kept as published.

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
        labeled = [file for file in self._beside if file.name == CLASS_NAMES]
        if labeled:
            self._names = Classes(read_class_names(labeled[0].parent) or (), str(labeled[0]))
            self.classes = self._names.names
            self.prompts = read_prompts(labeled[0].parent)

    @classmethod
    def at(cls, *places: str) -> Self:
        """The source that ``webdataset:GLOB`` means; a folder stands for its shards."""
        return cls(files_by_split(places, ".tar", ".tar.gz", ".tgz"))

    def samples(self, split: str) -> Iterator[Sample]:
        """Samples in the order of the shards."""
        endings: Counter[str] = Counter()
        images = texts = 0
        for shard in self._shards[split]:
            for key, members in _grouped(shard):
                endings.update(list(members))
                image: bytes | UnreadableError = UnreadableError("no image", f"its members: {', '.join(members)}")
                image = next((members[form] for form in _IMAGES if form in members), image)
                captions = _captions(shard, key, members)
                label = self._label(shard, key, members, captions)
                images += any(form in members for form in _IMAGES)
                texts += bool(captions) or label is not None
                yield Sample(key, image, captions, label)
        for count, what in ((images, f"an image ({', '.join(_IMAGES)})"), (texts, "a caption (txt, json) or a label")):
            if not count:
                shards = _span(self._shards[split])
                raise UserError(f"{shards}: no sample has {what}; the endings found are {_counted(endings)}")

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

    def _label(self, shard: Path, key: str, members: _Members, captions: tuple[str, ...]) -> int | None:
        if "cls" not in members or (captions and not self.classes):
            return None
        if not self.classes:
            raise UserError(f"samples have labels, but there is no {CLASS_NAMES} beside them", file=shard)
        try:
            return self._names.index(normal_label(_text(members["cls"])))
        except UserError as error:
            raise UserError(f"{key}.cls: {error.message}", file=shard) from None


def _grouped(shard: Path) -> Iterator[tuple[str, _Members]]:
    """The samples of a shard: neighbors that share a name up to its first dot, with their members by ending."""
    earlier: dict[str, frozenset[str]] = {}
    known: dict[frozenset[str], frozenset[str]] = {}  # most samples have the same endings
    again = ""
    for key, members in _neighbors(shard):
        endings = frozenset(members)
        if key not in earlier:
            earlier[key] = known.setdefault(endings, endings)
        elif not endings & earlier[key]:
            raise UserError(
                f"{storable(key)}: {', '.join(sorted(endings))} does not follow {', '.join(sorted(earlier[key]))}: "
                "the members of a sample must be neighbors (make the shard with `tar --sort=name`)",
                file=shard,
            )
        else:
            again = again or key
        yield key, members
    if again:
        _log.warning("%s: several samples have one name, such as %s; all are read", shard, storable(again))


def _neighbors(shard: Path) -> Iterator[tuple[str, _Members]]:
    key, archive, members = "", 0, _Members()
    for member in members_of(shard):
        at, ending = _parts(member.name)
        if not ending:
            continue
        if (at, member.archive) != (key, archive):
            if members:
                yield key, members
            key, archive, members = at, member.archive, {}
        if ending in members:
            raise UserError(f"{storable(member.name)} comes twice: samples must differ in their names", file=shard)
        members[ending] = _content(member)
    if members:
        yield key, members


def _parts(name: str) -> tuple[str, str]:
    """A member's name up to the first dot of its last part, and its ending; no ending where it is of no sample."""
    folder, slash, last = name.removeprefix("./").rpartition("/")
    stem, _, ending = last.partition(".")
    return (folder + slash + stem, ending.lower()) if stem and "__MACOSX" not in folder else ("", "")


def _content(member: Member) -> bytes | UnreadableError:
    try:
        return member.read()
    except UnreadableError as why:
        return why


def _text(content: bytes | UnreadableError) -> str:
    return "" if isinstance(content, UnreadableError) else content.decode("utf-8-sig", "replace")


def _captions(shard: Path, key: str, members: _Members) -> tuple[str, ...]:
    text = _text(members["txt"]).strip() if "txt" in members else None
    if text is not None and ("\n" not in text or "json" not in members):
        return caption_texts(text.split("\n"))
    if "json" not in members:
        return ()
    try:
        content = json.loads(_text(members["json"]) or "{}")
        found = (content.get("captions") or content.get("caption")) if isinstance(content, dict) else None
        if text is not None and not (isinstance(found, str) and found.split() == text.split()):
            return caption_texts(text.split("\n"))
        return caption_texts(found)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{storable(key)}.json is not JSON: {error}", file=shard) from None
    except UserError as error:
        raise UserError(f"{storable(key)}.json: {error.message}", file=shard) from None


def _span(shards: Sequence[Path]) -> str:
    return str(shards[0]) if len(shards) == 1 else f"{shards[0]} to {shards[-1].name}"


def _counted(endings: Counter[str]) -> str:
    named = ", ".join(f"{storable(ending)} ({count})" for ending, count in endings.most_common(_NAMED))
    return (named or "none") + (f" and {len(endings) - _NAMED} more" if len(endings) > _NAMED else "")
