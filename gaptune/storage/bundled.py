"""What comes with gaptune, in a checkout or in an installed wheel: YAML files, notebooks, and recorded sweeps."""

from __future__ import annotations

from pathlib import Path

from gaptune.errors import UserError, did_you_mean

_HERE = Path(__file__).resolve().parents[1]
_ROOTS = (_HERE / "_shipped", _HERE.parent)

EXAMPLES = {"example": "temp", "example-paper": "paper"}
"""Real sweeps on the embedded data, for those who have none of their own yet: name, and folder."""


def find(path: Path, folder: str) -> Path:
    """A file as given; or, where there is none, the one that comes with gaptune, with or without its ``.yaml``.

    Args:
        path: What a person asked for.
        folder: ``search_spaces`` or ``sweeps``.

    Raises:
        UserError: There is neither; with the nearest name.
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
    """The included YAML files of a directory by their file names.

    Args:
        folder: ``search_spaces`` or ``sweeps``.
    """
    return {file.name: file for root in _ROOTS for file in (root / folder).glob("*.yaml")}


def example(name: str = "example") -> Path:
    """The folder of a recorded sweep."""
    return next(root / "examples" for root in _ROOTS if (root / "examples").is_dir()) / EXAMPLES[name]


def notebooks() -> dict[str, Path]:
    """The notebooks by name."""
    return {file.stem: file for root in _ROOTS for file in (root / "analysis").glob("*.py")}
