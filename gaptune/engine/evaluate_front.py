"""Evaluations that only the candidates on a sweep's front get, once all trials have ended: ``when: front``."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import ray

from gaptune.config import EvaluationConfig, ResourcesConfig, SweepConfig
from gaptune.data.open import open_store
from gaptune.engine.calls import results_of
from gaptune.engine.cluster import side_by_side
from gaptune.engine.signals import Stop
from gaptune.engine.trainer import take_device
from gaptune.results import summarize
from gaptune.search.orchestrator import Orchestrator
from gaptune.storage.replica import Copies


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
    evaluations = [evaluation.model_dump() for evaluation in wanted]
    here, resources = str(Path.cwd()), sweep.resources
    found = results_of(
        _evaluate,
        [(f"{checkpoints}/{trial.number:04d}", evaluations, resources, here) for trial in members],
        processes=side_by_side(resources).most,
        cpus=resources.cpu,
        gpus=min(1.0, resources.gpus),  # one process evaluates, also what several ranks have trained
        look=stop.check,
    )
    with closing(found):
        for index, result in found:
            number = members[index].number
            if isinstance(result, ray.exceptions.RayError):
                reason = str(result).strip().splitlines()[-1]
                say(f"trial {number} could not be evaluated: {reason}; run the same command again to retry")
            else:
                orchestrator.scored(number, result)


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
