"""The command that trains a trial again."""

from __future__ import annotations

import shlex
from functools import cache
from pathlib import Path
from typing import Any

from gaptune.config import flatten, load_sweep_config
from gaptune.ledger import TrialRecord
from gaptune.storage.bundled import find


def train_words(trial: TrialRecord) -> list[str]:
    """``gaptune train`` with all in which a trial differs from the sweep that the command starts from.

    Args:
        trial: The trial.

    Returns:
        The words of the command, quoted for a shell.
    """
    plain = _start()
    words = ["gaptune", "train"]
    for name, value in trial.config.items():
        if name in plain and value != plain[name] and name != "device":
            words += ["--set", f"{name}={'null' if value is None else value}"]
    return [shlex.quote(word) for word in words]


@cache
def _start() -> dict[str, Any]:
    return flatten(load_sweep_config(find(Path("embedded.yaml"), "sweeps")).trial({}))
