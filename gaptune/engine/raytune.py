"""Ray Tune's three doors (searcher, scheduler, callback), each opening onto the conductor."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")  # the ledger keeps what they would write
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
os.environ.setdefault("RAY_CHDIR_TO_TRIAL_DIR", "0")
os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "3600")  # sweeps go on from the ledger, not from Ray's snapshots
os.environ.setdefault("TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S", "0")

from ray import tune
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from gaptune.config import SweepConfig
from gaptune.engine.cluster import side_by_side
from gaptune.engine.conductor import Conductor
from gaptune.engine.worker import FAULT, FULL_DISK, HALT, OVER, Worker
from gaptune.ledger import TrialRecord

T = TypeVar("T")

MAX_FAILURES = 2
"""How often a trial is taken up again after a fault that may pass (a killed worker, a lost node)."""


class _NotSaved:
    """Leaves nothing of itself in Ray's snapshots, which it pickles: a sweep goes on from its ledger."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class _Searcher(_NotSaved, Searcher):  # type: ignore[misc]  # ray is untyped
    """Hands out the conductor's trials."""

    def __init__(self, conductor: Conductor, describe: Callable[[TrialRecord], dict[str, Any]], most: int) -> None:
        super().__init__()
        self._conductor = conductor
        self._describe = describe
        self._most = most
        self._handed_out: set[int] = set()

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        trials = self._conductor.record.trials
        live = sum(not trials[number].state.ended for number in self._handed_out)
        if live >= self._most and not self._conductor.halted:
            return None
        trial = _unless_full(self._conductor, self._conductor.next_trial)
        if trial is None:
            return str(Searcher.FINISHED)
        self._handed_out.add(trial.number)
        return self._describe(trial)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Nothing: the scheduler has already said it."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the ledger has it."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the ledger has it."""


class _Scheduler(_NotSaved, FIFOScheduler):  # type: ignore[misc]
    """Takes every result to the conductor, and its word back to Ray."""

    def __init__(self, conductor: Conductor) -> None:
        super().__init__()
        self._conductor = conductor

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        goes_on = _unless_full(self._conductor, lambda: self._heard(trial.config["number"], result))
        return str(TrialScheduler.CONTINUE if goes_on else TrialScheduler.STOP)

    def _heard(self, number: int, result: dict[str, Any]) -> bool:
        if HALT in result:
            self._conductor.halt(result[HALT])
            return False
        if FAULT in result:
            self._conductor.failed(number, result[FAULT])
            return False
        scores = {name.removeprefix("scores/"): value for name, value in result.items() if name.startswith("scores/")}
        return self._conductor.reported(number, result["epoch"], result["step"], scores)


class _Callback(_NotSaved, tune.Callback):  # type: ignore[misc]
    """Says when a trial starts on a worker, is taken up again, or breaks for good.

    Not the scheduler: Ray tells that of an error also when it is about to try the trial again.
    """

    def __init__(self, conductor: Conductor) -> None:
        self._conductor = conductor

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        number, node = trial.config["number"], str(trial.node_ip or "local")
        _unless_full(self._conductor, lambda: self._conductor.started(number, node))

    def on_trial_recover(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        number, reason = trial.config["number"], _reason(trial)
        if reason.startswith("out of memory"):  # the same knobs would run short again; Ray cannot be kept from trying
            trial.config[OVER] = True
            _unless_full(self._conductor, lambda: self._conductor.failed(number, reason))
        else:
            _unless_full(self._conductor, lambda: self._conductor.retried(number, reason))

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        number, reason = trial.config["number"], _reason(trial)
        _unless_full(self._conductor, lambda: self._conductor.failed(number, reason))


def _unless_full(conductor: Conductor, call: Callable[[], T]) -> T | None:
    """Does something that writes the ledger; once its disk is full, nothing more until somebody has made room."""
    if conductor.halted:
        return None
    try:
        return call()
    except OSError as fault:
        if fault.errno not in FULL_DISK:
            raise
        conductor.halt(f"{fault.strerror} (the ledger)")
        return None


def _reason(trial: Trial) -> str:
    """Why a Ray trial broke last, in one line, from the text that Ray keeps of it."""
    last = Path(trial.error_file).read_text(encoding="utf-8", errors="replace").rpartition("Failure # ")[2]
    lines = [line.strip() for line in last.splitlines()[1:] if line.strip()] or ["unknown"]
    if "OutOfMemoryError" in last or "running low on memory" in last:
        return "out of memory: the machine ran short, and Ray ended the worker"
    if "node has died" in last or "node was terminated" in last or "NodeDiedError" in last:
        return f"node lost: {lines[0]}"
    if lines[0].startswith("The actor"):
        return f"worker lost: {lines[0]}"
    return f"exception: {lines[-1]}"


def run_trials(conductor: Conductor, sweep: SweepConfig, folder: Path, checkpoints: str) -> bool:
    """Runs the conductor's trials on Ray until none is left or somebody presses Ctrl-C.

    Args:
        conductor: Decides everything.
        sweep: Resources of a trial, and its data.
        folder: The sweep's folder.
        checkpoints: Folder or URL of the trials' checkpoints, which go to ``NNNN`` in it.

    Returns:
        Whether it ran to the end (False: interrupted, or halted).
    """
    resources = sweep.resources
    drawn_ahead = 1  # so that a worker that becomes free finds its next trial waiting
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(side_by_side(resources) + drawn_ahead)

    def describe(trial: TrialRecord) -> dict[str, Any]:
        config: dict[str, Any] = {}
        for path, value in trial.config.items():
            group, _, leaf = path.rpartition(".")
            (config.setdefault(group, {}) if group else config)[leaf] = value
        return {
            "number": trial.number,
            "config": config,
            "event": {
                "event": "trial",
                "at": trial.drawn_at,
                "sweep_id": conductor.record.header["id"],
                "trial": trial.number,
                "suggestion": trial.suggestion,
                "knobs": trial.knobs,
                "config": trial.config,
                "method": trial.method,
                **({"sampler": trial.notes} if trial.notes else {}),
            },
            "data": sweep.data.model_dump(),
            "checkpoints": f"{checkpoints}/{trial.number:04d}",
            "threads": resources.cpu,
            "gpu": resources.gpu,
            "system_metrics": resources.system_metrics,
        }

    # Ray's snapshots are not used, so nobody needs to hear that one could not be written (the disk is full, say).
    logging.getLogger("ray.tune.execution.experiment_state").setLevel(logging.CRITICAL)
    tuner = tune.Tuner(
        tune.with_resources(Worker, {"cpu": resources.cpu, "gpu": resources.gpu}),
        tune_config=tune.TuneConfig(
            search_alg=_Searcher(conductor, describe, side_by_side(resources) + drawn_ahead),
            scheduler=_Scheduler(conductor),
            num_samples=-1,
            reuse_actors=True,
            trial_dirname_creator=lambda trial: f"{trial.config['number']:04d}-{trial.trial_id[:6]}",
        ),
        run_config=tune.RunConfig(
            name="ray",
            storage_path=str(folder),
            verbose=0,
            callbacks=[_Callback(conductor)],
            failure_config=tune.FailureConfig(max_failures=MAX_FAILURES),
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),  # trials keep their own
        ),
    )
    tuner.fit()
    return conductor.live == 0 and conductor.exhausted
