"""What a caption is, for all sources alike: a text, or one of a list of texts."""

from __future__ import annotations

import numpy as np

from gaptune.data.sources.base import storable
from gaptune.errors import UserError, brief


def caption_texts(value: object) -> tuple[str, ...]:
    """The captions that a value holds: without white space around them, without blank ones, null and NaN.

    A text of several lines is one caption, as open_clip reads it.

    Args:
        value: A text, a list of texts, or nothing.

    Raises:
        UserError: It is something else, such as bytes, a number or a record. The message lacks the place.
    """
    items = value if isinstance(value, list | tuple | np.ndarray) else [value]
    return tuple(text for item in items if (text := _text(item)))


def is_missing(value: object) -> bool:
    """Whether a value stands for nothing: null, or NaN, which pandas writes where a value is missing."""
    return value is None or (isinstance(value, float | np.floating) and bool(np.isnan(value)))


def _text(value: object) -> str:
    if is_missing(value):
        return ""
    if isinstance(value, str):
        return storable(value).strip()
    if isinstance(value, dict):
        raise UserError(
            f"a record with {', '.join(map(repr, value))} is no caption: expected a text; make a column of it"
        )
    what = f"{type(value).__name__} ({brief(value, 40)})"
    raise UserError(f"{what} is no caption: expected a text or a list of texts")
