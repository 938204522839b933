"""Nouns with their numbers."""

from __future__ import annotations


def counted(count: int, one: str, many: str | None = None) -> str:
    """A number with its noun, such as ``1 trial`` and ``2 trials``.

    Args:
        count: The number.
        one: The singular.
        many: The plural; None for the singular with an s.
    """
    return f"{count:,} {one if count == 1 else many or f'{one}s'}"
