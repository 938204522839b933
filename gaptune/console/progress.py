"""Progress bars on standard error."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from gaptune.console import make_console


@contextmanager
def progress_bar(what: str, total: int | None = None) -> Iterator[Callable[..., None]]:
    """Shows a progress bar, without a known total from the first step on: an error before leaves no empty bar.

    Args:
        what: Description of what is counted.
        total: Total number; None if it is only known later.

    Yields:
        A function that takes the number done, and the total if it is known now.
    """
    from rich.progress import Progress

    progress = Progress(console=make_console(stderr=True))
    task = progress.add_task(what, total=total)

    def show(done: int, total: int | None = total) -> None:
        progress.start()
        progress.update(task, completed=done, total=total)

    if total is not None:
        progress.start()
    try:
        yield show
    finally:
        if progress.live.is_started:
            progress.stop()
