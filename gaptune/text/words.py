"""Numbers with their nouns and units."""

from __future__ import annotations


def counted(count: int, one: str, many: str | None = None) -> str:
    """A number with its noun, such as ``1 trial`` or ``2 trials``.

    Args:
        count: Number of things.
        one: Singular of the noun.
        many: Plural of the noun; None to add an s to the singular.
    """
    return f"{count:,} {one if count == 1 else many or f'{one}s'}"


def size(count: float) -> str:
    """A number of bytes with a unit, such as ``12.5 MB``; 1 kB is 1,000 bytes."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"
