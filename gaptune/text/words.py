"""Singular and plural nouns."""

from __future__ import annotations


def counted(count: int, one: str, many: str | None = None) -> str:
    """A number with its noun, such as ``1 trial`` or ``2 trials``.

    Args:
        count: Number of things.
        one: Singular of the noun.
        many: Plural of the noun; None to add an s to the singular.
    """
    return f"{count:,} {one if count == 1 else many or f'{one}s'}"
