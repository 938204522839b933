"""Typed schemas for trials and sweeps, validated when a file is read."""

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
    NOT_PARAMETERS,
    AugmentConfig,
    DataConfig,
    EvaluationConfig,
    ModelConfig,
    OptimizerConfig,
    SwapConfig,
    TemperatureConfig,
    TrainingConfig,
    TrialConfig,
    flatten,
    parameter_fields,
    with_params,
)

__all__ = [
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
    "with_params",
]
