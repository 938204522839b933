"""The science of one training: model, temperature, swap, loss, loop, checkpoint; no ray, optuna or mlflow."""

from gaptune.trial.loop import Report, train
from gaptune.trial.loss import NonFinite

__all__ = ["NonFinite", "Report", "train"]
