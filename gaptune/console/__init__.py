"""Output on a terminal: tables, the live panel, plans, progress bars, and JSON."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gaptune.console.terminal import Console


def make_console(stderr: bool = False) -> Console:
    """The console of this process, on standard output or standard error."""
    from gaptune.console.terminal import Console  # rich is needed by what prints, not by ``--help``

    return Console(sys.stderr if stderr else sys.stdout)
