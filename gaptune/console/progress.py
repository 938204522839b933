"""A progress bar for work that is no sweep."""

from __future__ import annotations

from typing import Any

from gaptune.console import make_console


class progress_bar:  # noqa: N801  (used like the function that it stands for)
    """A progress bar on standard error, as a context that gives the function to call with the number done."""

    def __init__(self, what: str, total: int) -> None:
        from rich.progress import Progress

        self._bar = Progress(console=make_console(stderr=True))
        self._task = self._bar.add_task(what, total=total)

    def __enter__(self) -> Any:
        self._bar.start()
        return lambda done: self._bar.update(self._task, completed=done)

    def __exit__(self, *error: object) -> None:
        self._bar.stop()
