"""Model and data of the paper's theory, from a sweep config."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gaptune.config import TrialConfig
    from gaptune.data import Store


def open_setup(sweep_file: Path) -> tuple[TrialConfig, Store]:
    """A sweep's configuration and data, for runs on one thread."""
    import torch

    from gaptune.config import load_sweep_config
    from gaptune.data.open import open_training
    from gaptune.storage.bundled import find

    torch.set_num_threads(1)
    config = load_sweep_config(find(sweep_file, "sweeps")).trial({})
    return config, open_training(config.data)
