"""gaptune: search the trade-off between modality gap, retrieval and uniformity of CLIP-style models.

From Python: ``load_sweep`` reads a sweep, ``run_sweep`` runs one, ``train`` trains one trial (see ``gaptune.api``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gaptune.api import Sweep, load_sweep, run_sweep, train

__version__ = "0.1.0"
__all__ = ["Sweep", "__version__", "load_sweep", "run_sweep", "train"]


def __getattr__(name: str) -> Any:
    """The public names, imported when they are first asked for: ``import gaptune`` itself costs nothing."""
    if name in __all__:
        import gaptune.api

        return getattr(gaptune.api, name)
    raise AttributeError(f"module 'gaptune' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
