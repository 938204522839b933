"""Results as JSON, for scripts."""

from __future__ import annotations

import json
import math
from typing import Any

from gaptune.text.output import echo


def print_json(value: Any) -> None:
    """Prints a value as JSON; numbers that are not finite, which JSON lacks, as null."""
    echo(json.dumps(_plain(value), indent=2))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
