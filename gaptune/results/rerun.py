"""The command that trains a trial again."""

from __future__ import annotations

import shlex
from functools import cache
from pathlib import Path
from typing import Any

from gaptune.config import flatten, load_sweep_config
from gaptune.ledger import TrialRecord
from gaptune.storage.bundled import find


def rerun_command(trial: TrialRecord) -> str:
    """``gaptune train`` with the configuration of a trial, for a shell."""
    return " ".join(rerun_words(trial))


def rerun_words(trial: TrialRecord) -> list[str]:
    """The words of ``rerun_command``, each quoted for a shell: all settings that differ from the embedded sweep's."""
    plain = _start()
    words = ["gaptune", "train"]
    for name, value in trial.config.items():
        if name in plain and value != plain[name] and name != "device":
            words += ["--set", f"{name}={'null' if value is None else value}"]
    return [shlex.quote(word) for word in words]


@cache
def _start() -> dict[str, Any]:
    return flatten(load_sweep_config(find(Path("embedded.yaml"), "sweeps")).trial({}))
