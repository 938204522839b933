"""Files included with gaptune, in a checkout or an installed wheel: YAML files, notebooks and example sweeps."""

from __future__ import annotations

from pathlib import Path

from gaptune.errors import UserError, did_you_mean

_HERE = Path(__file__).resolve().parents[1]
_ROOTS = (_HERE / "_shipped", _HERE.parent)

EXAMPLES = {"example": "temp", "example-paper": "paper", "example-paper-features": "paper-features"}
"""Example sweeps, on the embedded data and on features of photographs: their names and folders."""


def find(path: Path, folder: str) -> Path:
    """The given file if it exists, else the file of this name that is included with gaptune.

    Args:
        path: Path from the user; the name of an included file may lack its ``.yaml``.
        folder: Kind of the file: ``search_spaces`` or ``sweeps``.

    Raises:
        UserError: Neither exists; the message suggests the nearest name.
    """
    if path.exists() or path.parent.name not in ("", folder):
        return path
    shipped = bundled_yaml(folder)
    name = path.name if path.name in shipped else f"{path.name}.yaml"
    if name not in shipped:
        near = [str(file) for file in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
        raise UserError(f"no such file: {path}{did_you_mean(path.name, [*shipped, *near])}")
    return shipped[name]


def bundled_yaml(folder: str) -> dict[str, Path]:
    """The YAML files in a folder included with gaptune, by file name.

    Args:
        folder: Name of the folder: ``search_spaces`` or ``sweeps``.
    """
    return {file.name: file for root in _ROOTS for file in (root / folder).glob("*.yaml")}


def example(name: str = "example") -> Path:
    """The folder of an example sweep."""
    return next(root / "examples" for root in _ROOTS if (root / "examples").is_dir()) / EXAMPLES[name]


def notebooks() -> dict[str, Path]:
    """The notebooks included with gaptune, by name."""
    return {file.stem: file for root in _ROOTS for file in (root / "analysis").glob("*.py")}
