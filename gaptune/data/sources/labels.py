"""Class names and prompt templates that lie beside the images, as clip_benchmark keeps them."""

from __future__ import annotations

from pathlib import Path
from string import Formatter

from gaptune.errors import UserError

CLASS_NAMES = "classnames.txt"
TEMPLATES = "zeroshot_classification_templates.txt"

PROMPTS = (
    "itap of a {}.",
    "a bad photo of the {}.",
    "a origami {}.",
    "a photo of the large {}.",
    "a {} in a video game.",
    "art of the {}.",
    "a photo of the small {}.",
)
"""open_clip's ``SIMPLE_IMAGENET_TEMPLATES``, for data that bring no templates of their own."""


def read_class_names(folder: Path) -> tuple[str, ...] | None:
    """Class names, one a line in the order of the labels; None where no file gives them.

    Raises:
        UserError: The file cannot be read or has no names.
    """
    return _lines(folder / CLASS_NAMES)


def read_prompts(folder: Path) -> tuple[str, ...]:
    """Prompt templates, one a line, with ``{c}`` or ``{}`` for the class; open_clip's simple ones where there are none.

    Raises:
        UserError: A template has no place for the class, or another place.
    """
    lines = _lines(folder / TEMPLATES)
    if lines is None:
        return PROMPTS
    for number, line in enumerate(lines, 1):
        try:
            fields = [field for _, field, _, _ in Formatter().parse(line) if field is not None]
        except ValueError:
            fields = []
        if fields not in (["c"], [""]):
            raise UserError(f"{line!r} must have {{c}} once, for the class", file=folder / TEMPLATES, line=number)
    return tuple(line.replace("{c}", "{}") for line in lines)


def _lines(file: Path) -> tuple[str, ...] | None:
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as fault:
        raise UserError(f"cannot be read as text: {fault}", file=file) from None
    lines = tuple(line.strip() for line in text.splitlines() if line.strip())
    if not lines:
        raise UserError("has no lines", file=file)
    return lines
