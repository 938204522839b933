"""The science of one training: model, temperature, swap, loss, loop, checkpoint; no ray, optuna or mlflow."""

from gaptune.trial.loop import train
from gaptune.trial.loss import NonFinite
from gaptune.trial.saver import Report

__all__ = ["NonFinite", "Report", "train"]
