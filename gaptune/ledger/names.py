"""Names of sweeps: each is a directory, a part of a URL and a word of a command."""

from __future__ import annotations

import hashlib
import secrets
import time
import unicodedata
from pathlib import Path

from gaptune.errors import UserError
from gaptune.storage.bundled import EXAMPLES

_LONGEST = 100  # bytes in UTF-8; with what is put behind it, a file system's 255 are not reached
_SIGNS = frozenset(" ._-+=,@()[]")
_RESERVED = frozenset({"mlflow.db", "mlflow.db-journal", "mlflow.db-wal", "mlflow.db-shm", "mlartifacts", "mlruns"})
_ALLOWED = f"letters, digits, spaces and . _ - + = , @ ( ) [ ], at most {_LONGEST} bytes"


def check_name(name: str) -> str:
    """Checks the name of a sweep, and returns it.

    Args:
        name: The name.

    Raises:
        UserError: The name is not allowed; with the reason.
    """
    error = _problem(name)
    if error is not None:
        shown = name if len(name) <= _LONGEST else f"{name[:40]}…"
        raise UserError(f"no sweep can be called {shown!r}: {error}")
    return name


def fitting_name(text: str) -> str:
    """An allowed name made from any text: the same for the same text, and the text itself if it is allowed.

    Args:
        text: Such as ``NAME-confirm-5``.
    """
    name = "".join(sign if _allowed(sign) else "-" for sign in text).lstrip(" .-").rstrip(" .") or "sweep"
    if len(name.encode()) > _LONGEST:
        digest = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:8]
        start, end = name.encode()[: _LONGEST - 40], name.encode()[-30:]
        name = f"{start.decode(errors='ignore')}-{digest}-{end.decode(errors='ignore')}"
    return name if _problem(name) is None else f"sweep-{name}"  # a reserved name


def default_name(space: str, results: Path, now: float) -> str:
    """The default name of a sweep: its space, the time, and four random digits.

    Sweeps that start in the same second on different machines get different names.

    Args:
        space: The name of the search space.
        results: Folder of all sweeps.
        now: Time in seconds since 1970.
    """
    stem = f"{space}-{time.strftime('%Y%m%d-%H%M%S', time.localtime(now))}"
    while (results / (name := fitting_name(f"{stem}-{secrets.token_hex(2)}"))).exists():
        pass
    return name


def _problem(name: str) -> str | None:
    """Why a name is not allowed; None if it is."""
    wrong = [sign for sign in name if not _allowed(sign)]
    if not name:
        return "it is empty"
    if wrong:
        return f"it has {wrong[0]!r}; allowed are {_ALLOWED}"
    if len(name.encode()) > _LONGEST:
        return f"it has {len(name.encode())} bytes; allowed are {_ALLOWED}"
    if name[0] in ".- " or name[-1] in ". ":
        return "it begins with a dot, a hyphen or a space, or ends with a dot or a space"
    if name.lower() in _RESERVED:
        return "MLflow's tracking store has that name"
    if name.lower() in EXAMPLES:
        return "an example sweep has that name"
    return None


def _allowed(sign: str) -> bool:
    return sign in _SIGNS or unicodedata.category(sign)[0] in "LMN"
