"""Splits: which one a file or a row belongs to, for all sources alike.

The user's ``SPLIT=FILE`` comes first. Else the folder says it, then the file's own name, then a column. What belongs to
no split, or to two, is an error that names it. Where nothing at all names a split, everything is ``train``.

Paths are looked at as they are written, never resolved: a link into a cache of blobs has the name that counts.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from gaptune.data.sources.base import check_split_name
from gaptune.errors import UserError, brief

TRAIN, VAL, TEST = "train", "val", "test"

_ALIASES = {
    "train": TRAIN,
    "training": TRAIN,
    "val": VAL,
    "valid": VAL,
    "validation": VAL,
    "dev": VAL,
    "test": TEST,
    "testing": TEST,
}
_SET_OFF = re.compile(r"[-_.\s]+")
_NAMED = 3  # in an error


def canonical(name: str) -> str:
    """A split's name as gaptune says it: ``val`` for ``Validation``, ``valid`` and ``dev``; others as they are.

    Raises:
        UserError: It is not made of letters, digits and _.
    """
    name = name.strip()
    return _ALIASES.get(name.casefold()) or check_split_name(name)


def folder_split(name: str) -> str | None:
    """The split that a folder's whole name is: ``Train``, ``validation``, ``val2017``; None for other names."""
    return _ALIASES.get(_bare(name))


def splits_in(name: str) -> list[str]:
    """The splits that a name has among its words, each once: ``["val"]`` for ``cc3m-validation-0000.tar``.

    A word is set off by ``-``, ``_``, ``.``, a space or the ends. Case and digits around it do not matter.
    """
    return list(dict.fromkeys(split for word in _SET_OFF.split(name) if (split := folder_split(word)) is not None))


def split_of(path: Path, top: Path | None = None) -> str | None:
    """The split that a file's folder and its name say; None where they say nothing.

    Args:
        path: The file, not resolved.
        top: The folder that holds all files of a source; by default the file's own. Folders between it and the file
            count word by word, as the file's name does. Where they say nothing, it counts itself if its whole name is
            a split.

    Raises:
        UserError: They name two splits.
    """
    top = top or path.parent
    named: dict[str, str] = {}
    for folder in path.parent.relative_to(top).parts:
        named |= dict.fromkeys(splits_in(folder), f"its folder {folder!r}")
    if not named and (split := folder_split(top.name)):
        named[split] = f"its folder {top.name!r}"
    named = dict.fromkeys(splits_in(path.name), "its name") | named
    if len(named) > 1:
        said = " and ".join(f"{split!r} ({where})" for split, where in named.items())
        raise UserError(f"{path} belongs to two splits, {said}: say which with SPLIT=FILE, or rename it")
    return next(iter(named), None)


def by_split(files: Iterable[tuple[Path, str | None]]) -> dict[str, list[Path]]:
    """Files by split, each once, in their order.

    Args:
        files: Each with the split that the user gave it; None to look at its folder and its name. All lie in absolute
            paths.

    Raises:
        UserError: A file belongs to no split where others name one, or to two.
    """
    pairs = list(dict.fromkeys(files))
    asked = [path for path, given in pairs if given is None]
    top = Path(os.path.commonpath([path.parent for path in asked])) if asked else None
    splits = {path: split_of(path, top) for path in asked}
    if not any(splits.values()) and len(asked) == len(pairs):
        return {TRAIN: asked} if asked else {}
    if none := [path for path, split in splits.items() if split is None]:
        raise UserError(
            f"{_listed(none)}: neither folder nor name says the split, as they do for other files; use SPLIT=FILE"
            if any(splits.values())
            else f"{_listed(none)}: other files are given a split, so give these one too (such as train=FILE)"
        )
    found: dict[str, list[Path]] = {}
    seen: dict[Path, str] = {}
    for path, given in pairs:
        split = canonical(given) if given is not None else splits[path] or TRAIN
        if seen.setdefault(path, split) != split:
            raise UserError(f"{path} belongs to two splits, {seen[path]!r} and {split!r}")
        if path not in (already := found.setdefault(split, [])):
            already.append(path)
    return found


def split_in_column(value: object) -> str | None:
    """The split that a value of a column says; None for null and blank.

    Raises:
        UserError: It is no text, or cannot name a split.
    """
    if value is None:
        return None
    if not isinstance(value, str):
        raise UserError(f"{brief(value)} cannot name a split: expected a text such as 'train'")
    return canonical(value) if value.strip() else None


def _bare(word: str) -> str:
    return word.strip("0123456789").casefold()


def _listed(paths: Sequence[Path]) -> str:
    others = len(paths) - _NAMED
    return ", ".join(map(str, paths[:_NAMED])) + (f" and {others} more" if others > 0 else "")
