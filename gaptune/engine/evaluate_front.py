"""Evaluations that only the candidates on a sweep's front get, once all trials have ended: ``when: front``."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import ray

from gaptune.config import EvaluationConfig, ResourcesConfig, SweepConfig
from gaptune.data.open import open_store
from gaptune.engine.signals import Stop
from gaptune.engine.trainer import take_device
from gaptune.results import summarize
from gaptune.search.orchestrator import Orchestrator
from gaptune.storage.replica import Copies

_LOOK_S = 0.5


def evaluate_front(
    orchestrator: Orchestrator, sweep: SweepConfig, checkpoints: str, say: Callable[[str], None], stop: Stop
) -> None:
    """Evaluates the newest checkpoint of each trial on the front that lacks a metric, and records the metrics.

    A trial that cannot be evaluated is reported; running the same command again retries it.

    Args:
        orchestrator: Orchestrator with the sweep's record.
        sweep: Config with the evaluations and their resources.
        checkpoints: Directory or URL of the trials' checkpoints.
        say: Callback that prints a line.
        stop: Whether to end early.

    Raises:
        Stopped: The evaluation was interrupted.
    """
    wanted = [evaluation for evaluation in sweep.evaluate if evaluation.when == "front"]
    names = {metric for evaluation in wanted for metric in evaluation.metrics}
    members = [
        trial
        for candidate in summarize(orchestrator.record).front
        for trial in candidate.trials
        if not names <= trial.last.keys()
    ]
    if not members:
        return
    say(f"evaluating {len(members)} trials of the front on {', '.join(evaluation.name for evaluation in wanted)}")
    gpus = min(1.0, sweep.resources.gpus)  # one process evaluates, also what several ranks have trained
    evaluate = ray.remote(num_cpus=sweep.resources.cpu, num_gpus=gpus)(_evaluate)
    evaluations = [evaluation.model_dump() for evaluation in wanted]
    here, resources = str(Path.cwd()), sweep.resources
    running = {
        evaluate.remote(f"{checkpoints}/{trial.number:04d}", evaluations, resources, here): trial.number
        for trial in members
    }
    try:
        while running:
            stop.check()
            for done in ray.wait(list(running), timeout=_LOOK_S)[0]:
                number = running.pop(done)
                try:
                    orchestrator.scored(number, ray.get(done))
                except ray.exceptions.RayError as error:
                    reason = str(error).strip().splitlines()[-1]
                    say(f"trial {number} could not be evaluated: {reason}; run the same command again to retry")
    finally:
        for one in running:
            ray.cancel(one, force=True)


def _evaluate(
    checkpoints: str, evaluations: list[dict[str, Any]], resources: ResourcesConfig, folder: str
) -> dict[str, float]:
    """Runs on a worker."""
    device = take_device(min(1.0, resources.gpus))
    import torch

    from gaptune.trial.checkpoint import read_checkpoint
    from gaptune.trial.evaluate import TaskEvaluator, Where, named_means
    from gaptune.trial.loop import trained_model

    torch.set_num_threads(resources.cpu)
    with suppress(OSError):  # it may not exist on another node
        os.chdir(folder)
    copies = Copies(checkpoints) if "://" in checkpoints else None
    try:
        state = read_checkpoint(copies.pull() if copies else Path(checkpoints))
    finally:
        if copies:
            copies.remove()
    model, precision = trained_model(state, device)
    metrics: dict[str, float] = {}
    for evaluation in map(EvaluationConfig.model_validate, evaluations):
        store = open_store(evaluation.data, image_size=model.image_size, context_length=model.context_length)
        where = Where(next(model.parameters()).device, precision)
        metrics |= named_means(evaluation.name, TaskEvaluator(store, evaluation.tasks, where)(model))
    return metrics
