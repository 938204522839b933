"""Typed schemas for trials and sweeps, validated when a file is read."""

from gaptune.config.params import (
    MODEL_PARAMETERS,
    NOT_PARAMETERS,
    flatten,
    parameter_fields,
    unflatten,
    with_params,
)
from gaptune.config.sweep import (
    ConstraintConfig,
    EarlyStoppingConfig,
    ObjectiveConfig,
    ResourcesConfig,
    SearchConfig,
    SweepConfig,
    load_sweep_config,
)
from gaptune.config.trial import (
    HEAD_DEFAULTS,
    HEADS,
    AugmentConfig,
    DataConfig,
    EvaluationConfig,
    ModelConfig,
    OptimizerConfig,
    SwapConfig,
    TemperatureConfig,
    TrainingConfig,
    TrialConfig,
)

__all__ = [
    "HEADS",
    "HEAD_DEFAULTS",
    "MODEL_PARAMETERS",
    "NOT_PARAMETERS",
    "AugmentConfig",
    "ConstraintConfig",
    "DataConfig",
    "EarlyStoppingConfig",
    "EvaluationConfig",
    "ModelConfig",
    "ObjectiveConfig",
    "OptimizerConfig",
    "ResourcesConfig",
    "SearchConfig",
    "SwapConfig",
    "SweepConfig",
    "TemperatureConfig",
    "TrainingConfig",
    "TrialConfig",
    "flatten",
    "load_sweep_config",
    "parameter_fields",
    "unflatten",
    "with_params",
]
