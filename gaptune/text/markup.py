"""Escaping of untrusted text such as names, error messages, paths and class names, so that none acts as markup.

There is one function per renderer. Text for the terminal goes through ``Console`` or ``text.output.echo``, and text in
the HTML report through ``textContent``; these show it literally.
"""

from __future__ import annotations

import html
import re

from gaptune.text.output import one_line

_MARKS = re.compile(
    r"""
    [\\`*\[\]|~]                # code, emphasis, links, tables, deletions
    | (?<!\w)_ | _(?!\w)        # emphasis, except within a word
    | <(?=[A-Za-z/!?])          # HTML, and addresses in angle brackets
    | &(?=[#\w]+;)              # entities
    | ^(?:[#>+=-]|\d+(?=[.)]))  # headings, quotes, rules, and lists, with their numbers
    """,
    re.VERBOSE,
)

_BAR = re.compile(r"(?<!\\)\|")


def for_plot(text: str) -> str:
    """One line of text that matplotlib draws literally: ``$`` does not start mathematics."""
    return one_line(text).replace("$", r"\$")


def for_markdown(text: str) -> str:
    """One line of text that Markdown shows literally, in a paragraph or a table cell."""
    return _MARKS.sub(_escaped, one_line(text).strip())


def markdown_code(text: str) -> str:
    """One line of text as a Markdown code span, whose fence is longer than any run of backticks in the text."""
    shown = one_line(text).strip() or " "
    fence = "`" * (1 + max(map(len, re.findall("`+", shown)), default=0))
    pad = " " if "`" in (shown[0], shown[-1]) else ""
    return f"{fence}{pad}{shown}{pad}{fence}"


def markdown_row(*cells: str) -> str:
    """A table row of cells that are Markdown already. Bars are escaped, as they end a cell even in code."""
    return "| " + " | ".join(_BAR.sub(r"\|", cell) for cell in cells) + " |"


def for_html(text: str) -> str:
    """One line of text that HTML shows literally, in an element or a quoted attribute."""
    return html.escape(one_line(text))


def _escaped(found: re.Match[str]) -> str:
    mark = found[0]
    return f"{mark}\\" if mark.isdecimal() else f"\\{mark}"
