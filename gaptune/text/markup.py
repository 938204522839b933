"""Foreign text made safe for what shows it: names, reasons, paths and class names are data, never markup.

One function for each renderer. Text on a terminal goes through ``Console`` or ``text.output.echo``, and
text in the report's page through ``textContent``, which take it literally.
"""

from __future__ import annotations

import html
import re

from gaptune.text.output import one_line

_MARKS = re.compile(
    r"""
    [\\`*\[\]|~]                # code, emphasis, links, tables, deletions
    | (?<!\w)_ | _(?!\w)        # emphasis; within a word it means nothing
    | <(?=[A-Za-z/!?])          # HTML, and addresses in angle brackets
    | &(?=[#\w]+;)              # entities
    | ^(?:[#>+=-]|\d+(?=[.)]))  # headings, quotes, lists, rules; of a numbered list, its number
    """,
    re.VERBOSE,
)

_BAR = re.compile(r"(?<!\\)\|")


def for_plot(text: str) -> str:
    """A text as one line that matplotlib draws as it is: a ``$`` is no mathematics."""
    return one_line(text).replace("$", r"\$")


def for_markdown(text: str) -> str:
    """A text as one line that Markdown shows as it is, in a paragraph or in a cell of a table."""
    return _MARKS.sub(_escaped, one_line(text).strip())


def markdown_code(text: str) -> str:
    """A text as one line in Markdown's code: the fence is longer than any run of backticks in it."""
    shown = one_line(text).strip() or " "
    fence = "`" * (1 + max(map(len, re.findall("`+", shown)), default=0))
    pad = " " if "`" in (shown[0], shown[-1]) else ""
    return f"{fence}{pad}{shown}{pad}{fence}"


def markdown_row(*cells: str) -> str:
    """Cells, each of them Markdown already, as a row of a table: the bars in code end a cell, too."""
    return "| " + " | ".join(_BAR.sub(r"\|", cell) for cell in cells) + " |"


def for_html(text: str) -> str:
    """A text as HTML shows it as it is, in an element or a quoted attribute."""
    return html.escape(one_line(text))


def _escaped(found: re.Match[str]) -> str:
    mark = found[0]
    return f"{mark}\\" if mark.isdecimal() else f"\\{mark}"
