"""The Ray side of a trial: a thin adapter around ``gaptune.trial.train``.

A worker is reused for one trial after another, because importing torch and open_clip costs seconds. It keeps no state
of its own across trials but the opened data store; a trial that is started again finds its own checkpoints.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray import tune

if TYPE_CHECKING:
    from gaptune.trial import Report

FAULT = "gaptune_fault"


class Worker(tune.Trainable):  # type: ignore[misc]  # ray is untyped
    """Runs the trial that its config describes, one epoch per ``step``.

    The config holds ``number``, ``config`` (a TrialConfig as a mapping), ``store``, ``checkpoints`` and ``threads``. A
    result holds ``epoch``, ``step`` and ``scores``, or, when the trial cannot go on and trying again would not help,
    the reason under ``gaptune_fault``. Any other exception is left to Ray, which may try the trial again.
    """

    def setup(self, config: dict[str, Any]) -> None:
        """Takes up a trial."""
        import torch

        from gaptune.config import TrialConfig
        from gaptune.data import open_store
        from gaptune.trial import train

        torch.set_num_threads(config["threads"])
        self._reports: Iterator[Report] = train(
            TrialConfig.model_validate(config["config"]),
            open_store(config["store"]),
            checkpoints=Path(config["checkpoints"]),
        )

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Takes up another trial in the same process."""
        self._reports = iter(())  # the last trial's model is let go before the next one is built
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Trains and evaluates one epoch."""
        import torch

        from gaptune.trial import NonFinite

        try:
            report = next(self._reports)
        except NonFinite as fault:
            return {FAULT: f"non-finite: {fault}"}
        except torch.OutOfMemoryError as fault:
            return {FAULT: f"out of memory: {str(fault).splitlines()[0]}"}
        return {"epoch": report.epoch, "step": report.step, "scores": report.metrics}
