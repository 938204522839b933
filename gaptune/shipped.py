"""The YAML files that come with gaptune, in a checkout or in an installed wheel."""

from __future__ import annotations

from pathlib import Path

from gaptune.errors import UserError, did_you_mean


def find(path: Path, folder: str) -> Path:
    """A file as given; or, where there is none, the one of that name that comes with gaptune.

    Args:
        path: What a person asked for.
        folder: ``search_spaces`` or ``sweeps``.

    Raises:
        UserError: There is neither; with the nearest name.
    """
    if path.exists() or path.parent.name not in ("", folder):
        return path
    here = Path(__file__).resolve().parent
    shipped = {file.name: file for root in (here / "_shipped", here.parent) for file in (root / folder).glob("*.yaml")}
    if path.name not in shipped:
        near = [str(file) for file in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
        raise UserError(f"no such file: {path}{did_you_mean(path.name, [*shipped, *near])}")
    return shipped[path.name]
