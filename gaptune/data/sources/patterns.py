"""Files by pattern, with braces as open_clip writes them and a shell's wildcards, and the splits that they are of."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from gaptune.data.sources.splits import by_split
from gaptune.errors import UserError

_LEFTOVERS = {"__macosx", "__pycache__", "thumbs.db", "desktop.ini", "@eadir", "$recycle.bin"}


def files_by_split(places: Sequence[str], *endings: str) -> dict[str, list[Path]]:
    """Finds files, sorted within each place, each with its split.

    Args:
        places: ``PLACE`` or ``SPLIT=PLACE``. A place is a file, a folder (then all files of that ending in it and
            below), or a pattern with ``*`` or braces such as ``{00000..01243}``. What exists by the name that was
            given is taken before it is read as a pattern. Without a ``SPLIT`` a file's folder and name say it.
        endings: Endings of the files in a folder, such as ``.tar``.

    Returns:
        Absolute paths by split. Links are not resolved.

    Raises:
        UserError: A place has no files, or a file belongs to no split or to two.
    """
    return by_split(found_files(places, *endings))


def found_files(places: Sequence[str], *endings: str) -> list[tuple[Path, str | None]]:
    """The files that ``files_by_split`` finds, each with the split that its place was given; None without one.

    Raises:
        UserError: A place has no files.
    """
    found: list[tuple[Path, str | None]] = []
    for place in places:
        split, equals, pattern = place.partition("=")
        given: str | None = split
        if not equals or not split.isidentifier() or os.path.lexists(located(place)):
            given, pattern = None, place
        found += [(file, given) for file in _expanded(pattern, endings)]
    return found


def located(place: str | Path) -> Path:
    """A place as an absolute path without ``..``, whose links are kept as they are named.

    Only what stands before a ``..`` is resolved: the folder above a link is the one above what it leads to.
    """
    path = Path(os.path.expanduser(place)).absolute()  # noqa: PTH111  # Path's own raises for a user nobody knows
    parts = path.parts
    if ".." not in parts:
        return path
    last = len(parts) - parts[::-1].index("..")
    return Path(*parts[:last]).resolve().joinpath(*parts[last:])


def is_leftover(name: str) -> bool:
    """Whether a file or folder of that name is hidden, or what an archive, a notebook or a system leaves behind."""
    return name.startswith(".") or name.casefold() in _LEFTOVERS


def files_below(folder: Path) -> Iterator[Path]:
    """All files in a folder and below, sorted, without leftovers; links to folders are entered, each folder once."""
    yield from sorted(_walked(folder, frozenset()))


def _walked(folder: Path, inside: frozenset[tuple[int, int]]) -> Iterator[Path]:
    state = folder.stat()
    if (state.st_dev, state.st_ino) in inside:  # a link to a folder that it lies in
        return
    inside |= {(state.st_dev, state.st_ino)}
    for entry in os.scandir(folder):
        if is_leftover(entry.name):
            continue
        if entry.is_dir():
            yield from _walked(folder / entry.name, inside)
        else:
            yield folder / entry.name


def _expanded(pattern: str, endings: Sequence[str]) -> list[Path]:
    found = dict.fromkeys(
        file
        for path in _matching(pattern)
        for file in (files_below(path) if path.is_dir() else [path])
        if file is path or file.name.lower().endswith(tuple(endings))
    )
    if not found:
        others = f" (nor {' or '.join(endings[1:])})" if endings[1:] else ""
        raise UserError(f"there are no {endings[0]} files in {pattern}{others}")
    for file in found:
        if not file.is_file():
            raise UserError(f"{file} is not a file" if file.exists() else f"{file} is a link to nothing")
    return list(found)


def _matching(pattern: str) -> list[Path]:
    """Files and folders of a pattern. Its beginning is taken literally as far as it exists."""
    from braceexpand import braceexpand

    root = located(pattern)
    literal = next(path for path in (root, *root.parents) if os.path.lexists(path))
    if literal == root:
        return [root]
    rest = str(root.relative_to(literal))
    try:
        patterns = list(braceexpand(rest))
    except ValueError:
        raise UserError(f"{pattern}: a brace is not closed") from None
    found: list[Path] = []
    for each in patterns:
        if os.path.lexists(literal / each):
            found.append(literal / each)
            continue
        names = sorted(glob.glob(each, root_dir=literal, recursive=True))  # noqa: PTH207  # sorts as before, and root_dir
        names = [name for name in names if not any(map(is_leftover, Path(name).parts))]
        if not names:
            raise UserError(f"there is no file {literal / each}")
        found += [literal / name for name in names]
    return found
