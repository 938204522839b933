"""Columns of text, printed without rich."""

from __future__ import annotations

from gaptune.text.output import echo, one_line


def print_pairs(pairs: list[tuple[str, str]]) -> None:
    """Prints names and values in two columns."""
    width = max(len(label) for label, _ in pairs)
    for label, value in pairs:
        echo(f"{label:<{width}}  {one_line(value)}")


def print_rows(rows: list[tuple[str, ...]]) -> None:
    """Prints rows of text in columns: the first and the last left-aligned, the others right-aligned."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        numbers = [text.rjust(width) for text, width in zip(row[1:-1], widths[1:-1], strict=True)]
        echo(one_line("  ".join([row[0].ljust(widths[0]), *numbers, row[-1]])))
