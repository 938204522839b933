"""How many trials a worker trains together, as lanes of one training."""

from __future__ import annotations

from dataclasses import dataclass

from gaptune.config import HEADS, ResourcesConfig, SweepConfig
from gaptune.config.models import PRESETS
from gaptune.data import Store

ON_A_GPU = 16
"""Lanes of a small model on a GPU. Not measured on a GPU yet."""


@dataclass(frozen=True)
class Lanes:
    """How many trials a worker trains together.

    Attributes:
        number: The largest number.
        why: Why it was chosen; empty if the sweep config has the number.
    """

    number: int
    why: str = ""

    @property
    def unit(self) -> str:
        """What gets the CPU cores and GPUs of the sweep config, as text."""
        return "each trial" if self.number == 1 else "a worker"

    def __str__(self) -> str:
        """One line for the plan, such as ``1 (a CPU trains trials faster one by one)``."""
        return f"{self.number} ({self.why})" if self.why else str(self.number)


def lanes_of(sweep: SweepConfig, store: Store, resources: ResourcesConfig) -> Lanes:
    """How many trials of a sweep a worker trains together.

    Args:
        sweep: The sweep config.
        store: Its training data.
        resources: Resources of each trial, with a number of GPUs.
    """
    wanted = resources.lanes
    if wanted == 1:
        return Lanes(1)
    if resources.ranks > 1:
        return Lanes(1, f"{resources.ranks} ranks train each trial")
    if wanted == "auto" and not resources.gpus:
        return Lanes(1, "a CPU trains trials faster one by one")
    if wanted == "auto" and sweep.model.name not in (*PRESETS, HEADS):
        return Lanes(1, f"{sweep.model.name} is large enough to keep a GPU busy")
    from gaptune.trial.lanes import why_not  # torch

    config = sweep.trial({}).model_copy(update={"device": "cpu"})  # the driver leaves the GPUs to the workers
    if reason := why_not(config, store):
        return Lanes(1, f"trials run alone: {reason}")
    if wanted == "auto":
        return Lanes(ON_A_GPU, "a small model leaves most of a GPU idle")
    return Lanes(wanted)


def with_lanes(sweep: SweepConfig, lanes: Lanes) -> SweepConfig:
    """A sweep config with a number of lanes; the ledger keeps what the user wrote."""
    return sweep.model_copy(update={"resources": sweep.resources.model_copy(update={"lanes": lanes.number})})
