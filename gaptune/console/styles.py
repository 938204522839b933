"""Styles of everything that is printed on a terminal."""

from __future__ import annotations

NAME = "bold"
"""The name of what is shown."""

QUIET = "dim"
"""Text beside the main thing, and headings of the live panel."""

VERDICTS = {"holds": "green", "does not hold": "red", "not shown": "yellow", "not run": "dim"}
"""Verdicts on the claims of the paper."""
