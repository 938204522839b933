"""The science of one training: model, temperature, swap, loss, loop, checkpoint; no ray, optuna or mlflow."""

from gaptune.trial.loop import NonFinite, Report, train

__all__ = ["NonFinite", "Report", "train"]
