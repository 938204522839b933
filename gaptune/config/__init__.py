"""Trials and sweeps as typed schemas: what may be asked for, checked where it is read."""

from gaptune.config.sweep import Constraint, EarlyStopping, Objective, Resources, Search, SweepConfig, load_sweep_config
from gaptune.config.trial import (
    NOT_KNOBS,
    Augment,
    Data,
    Evaluation,
    Model,
    Optimizer,
    Swap,
    Temperature,
    Training,
    TrialConfig,
    flatten,
    knob_fields,
    with_knobs,
)

__all__ = [
    "NOT_KNOBS",
    "Augment",
    "Constraint",
    "Data",
    "EarlyStopping",
    "Evaluation",
    "Model",
    "Objective",
    "Optimizer",
    "Resources",
    "Search",
    "Swap",
    "SweepConfig",
    "Temperature",
    "Training",
    "TrialConfig",
    "flatten",
    "knob_fields",
    "load_sweep_config",
    "with_knobs",
]
