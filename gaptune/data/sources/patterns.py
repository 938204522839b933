"""Files by pattern, with braces as open_clip writes them and a shell's wildcards, and the splits that they are of."""

from __future__ import annotations

import glob
from collections.abc import Iterator, Sequence
from pathlib import Path

from gaptune.data.sources.base import check_split_name
from gaptune.errors import UserError

_FOLDERS = {"train": "train", "val": "val", "validation": "val", "test": "test"}


def split_name(text: str) -> str:
    """A split's name as gaptune says it: ``val`` for ``validation``."""
    return _FOLDERS.get(text, text)


def files_by_split(places: Sequence[str], ending: str) -> dict[str, list[Path]]:
    """Finds files, sorted within each place, and tells of which split they are.

    Args:
        places: ``PATTERN`` or ``SPLIT=PATTERN``. A pattern is a file, a folder (then its files of that ending, and
            those of its folders ``train``, ``val``, ``validation`` and ``test``), or has ``*`` or braces such as
            ``{00000..01243}``. Without a ``SPLIT`` a file is of the split that its folder names, else of ``train``.
        ending: Of the files in a folder, such as ``.tar``.

    Raises:
        UserError: A place has no files.
    """
    found: dict[str, list[Path]] = {}
    for place in places:
        split, equals, pattern = place.partition("=")
        if not equals or not split.isidentifier():
            split, pattern = "", place
        files = [file.resolve() for file in _expanded(pattern, ending)]
        if not files:
            raise UserError(f"there are no {ending} files in {pattern}")
        for file in files:
            name = check_split_name(split_name(split)) if split else _FOLDERS.get(file.parent.name, "train")
            found.setdefault(name, []).append(file)
    return found


def _expanded(pattern: str, ending: str) -> Iterator[Path]:
    from braceexpand import braceexpand

    root = Path(pattern).expanduser()
    if root.is_dir():
        for folder in (root, *(root / name for name in _FOLDERS)):
            yield from sorted(folder.glob(f"*{ending}"))
        return
    try:
        patterns = list(braceexpand(str(root)))
    except ValueError:
        raise UserError(f"{pattern}: a brace is not closed") from None
    for each in patterns:
        found = sorted(glob.glob(each, recursive=True))  # noqa: PTH207  # a Path's glob takes no absolute pattern
        if not found:
            raise UserError(f"there is no file {each}")
        yield from map(Path, found)
