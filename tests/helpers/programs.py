"""Soak tests that need root and programs of the system."""

import os
import shutil

PATH = f"{os.environ['PATH']}:/usr/sbin:/sbin"
"""Where servers are, too."""


def why_not(*programs, packages):
    """Why such a test cannot run here; None if it can.

    Args:
        programs: The programs that it starts.
        packages: Debian packages that have them, for the message.
    """
    if os.environ.get("GAPTUNE_SOAK") != "full":
        return "it takes minutes: GAPTUNE_SOAK=full runs it"
    if os.geteuid():
        return "it needs root"
    lacking = [name for name in programs if shutil.which(name, path=PATH) is None]
    return f"it needs {', '.join(lacking)} (Debian: {packages})" if lacking else None
