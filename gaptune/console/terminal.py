"""The console that prints tables and panels. It prints data, and never interprets markup in it."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import IO, Any, cast

from rich.console import Console as RichConsole
from rich.console import ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from gaptune.text.output import Stream, encodable, guarded, printable

_WIDE = 120


class Console(RichConsole):
    """Prints texts, tables and panels literally, to a stream that does not raise.

    It is as wide as the terminal, and 120 columns wide where there is none.

    Args:
        file: Stream to write to; None for standard output.
        more: Further arguments of rich's console.
    """

    def __init__(self, file: Any = None, **more: Any) -> None:
        self.stream: Stream = guarded(sys.stdout if file is None else file)
        width = None if self.stream.isatty() or more.get("force_terminal") else _WIDE
        settings = {"width": width, "markup": False, "emoji": False, "highlight": False} | more
        super().__init__(file=cast("IO[str]", self.stream), **settings)

    @classmethod
    def like(cls, console: RichConsole) -> Console:
        """A console of this class with the settings of another console."""
        if isinstance(console, cls):
            return console
        return cls(console.file, force_terminal=console.is_terminal, width=console.width)

    def say(self, text: str) -> None:
        """Prints a text without wrapping it, so that paths and commands in it can be copied."""
        self.print(text, soft_wrap=True)

    def render_str(self, text: str, **how: Any) -> Text:
        """Makes a text of a string, with its final characters, so that its width is right in the layout."""
        return super().render_str(encodable(printable(text), self.encoding), **how)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Renders anything, and escapes control characters in a ready ``Text``."""
        for segment in super().render(renderable, options):
            text, style, control = segment
            yield segment if control or text == "\n" else Segment(printable(text), style)
