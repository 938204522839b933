"""The tasks of workers: what each needs to train its trials."""

from __future__ import annotations

from typing import Any

from gaptune.config import SweepConfig, unflatten
from gaptune.engine.messages import TrialTask, WorkerTask
from gaptune.ledger import SweepHeader, TrialRecord


def worker_task(
    trials: list[TrialRecord],
    name: str,
    *,
    header: SweepHeader,
    sweep: SweepConfig,
    checkpoints: str,
    beats: str,
    here: str,
) -> WorkerTask:
    """The task of a worker.

    Args:
        trials: The trials that it trains.
        name: Name of the worker's trial of Ray.
        header: Header of the sweep.
        sweep: The sweep config.
        checkpoints: Directory or URL of the trials' checkpoints, which go to ``NNNN`` in it.
        beats: Prefix of the sweep's keys in the cluster's key-value store.
        here: The directory to which relative paths are relative.
    """
    return WorkerTask(
        trials=tuple(
            TrialTask(
                trial.number, unflatten(trial.config), _event(trial, header.id), f"{checkpoints}/{trial.number:04d}"
            )
            for trial in trials
        ),
        data=sweep.data.model_dump(),
        weights=header.weights,
        workers=sweep.resources.workers,
        cpu=sweep.resources.cpu,
        gpu=sweep.resources.gpus,
        folder=here,
        place=f"{beats}/{name}",
        system_metrics=sweep.resources.system_metrics,
    )


def _event(trial: TrialRecord, sweep_id: str) -> dict[str, Any]:
    """The line of a trial in the ledger, for its own file."""
    return {
        "event": "trial",
        "at": trial.drawn_at,
        "sweep_id": sweep_id,
        "trial": trial.number,
        "candidate": trial.candidate,
        "params": trial.params,
        "config": trial.config,
        "method": trial.method,
        **({"sampler": trial.notes} if trial.notes else {}),
    }
