"""Ray Tune's three doors (searcher, scheduler, callback), each opening onto the conductor."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")  # the ledger keeps what they would write
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
os.environ.setdefault("RAY_CHDIR_TO_TRIAL_DIR", "0")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "3600")  # sweeps go on from the ledger, not from Ray's snapshots
os.environ.setdefault("TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S", "0")

import ray
from ray import tune
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from gaptune.config import Resources, SweepConfig
from gaptune.engine.conductor import Conductor
from gaptune.engine.worker import FAULT, Worker
from gaptune.errors import UserError
from gaptune.ledger import TrialRecord

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
        if live >= self._most:
            return None
        trial = self._conductor.next_trial()
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
        number = trial.config["number"]
        if FAULT in result:
            self._conductor.failed(number, result[FAULT])
            return str(TrialScheduler.STOP)
        scores = {name.removeprefix("scores/"): value for name, value in result.items() if name.startswith("scores/")}
        goes_on = self._conductor.reported(number, result["epoch"], result["step"], scores)
        return str(TrialScheduler.CONTINUE if goes_on else TrialScheduler.STOP)


class _Callback(_NotSaved, tune.Callback):  # type: ignore[misc]
    """Says when a trial starts on a worker, is taken up again, or breaks for good.

    Not the scheduler: Ray tells that of an error also when it is about to try the trial again.
    """

    def __init__(self, conductor: Conductor) -> None:
        self._conductor = conductor

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self._conductor.started(trial.config["number"], str(trial.node_ip or "local"))

    def on_trial_recover(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self._conductor.retried(trial.config["number"], _reason(trial))

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self._conductor.failed(trial.config["number"], _reason(trial))


def _reason(trial: Trial) -> str:
    """Why a Ray trial broke last, in one line, from the text that Ray keeps of it."""
    last = Path(trial.error_file).read_text(encoding="utf-8", errors="replace").rpartition("Failure # ")[2]
    lines = [line.strip() for line in last.splitlines()[1:] if line.strip()] or ["unknown"]
    if "OutOfMemoryError" in last or "running low on memory" in last:
        return "out of memory: the machine ran short, and Ray ended the worker"
    if lines[0].startswith("The actor"):
        return f"worker lost: {lines[0]}"
    return f"exception: {lines[-1]}"


def start_ray(resources: Resources, address: str | None) -> None:
    """Connects to a Ray cluster, or starts Ray on this machine for as many trials as should run side by side.

    Args:
        resources: What each trial gets.
        address: Of a running cluster; None for this machine.

    Raises:
        UserError: A trial needs more than this machine has.
    """
    logging.getLogger("ray").setLevel(logging.ERROR)
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if not ray.is_initialized():
        if address is not None:
            ray.init(address=address, **quiet)
        else:
            cores = os.cpu_count() or 1
            wanted = (resources.concurrency or max(1, cores // resources.cpu)) * resources.cpu
            ray.init(num_cpus=wanted, include_dashboard=False, **quiet)
    if address is None:
        gpus = ray.cluster_resources().get("GPU", 0.0)
        if resources.gpu > gpus:
            raise UserError(f"each trial needs {resources.gpu:g} GPU, this machine has {gpus:g}; see resources.gpu")


def side_by_side(resources: Resources) -> int:
    """How many trials Ray can run at once with what it has now, at most as many as the sweep allows."""
    have = ray.cluster_resources()
    fitting = int(have.get("CPU", 0.0) // resources.cpu)
    if resources.gpu:
        fitting = min(fitting, int(have.get("GPU", 0.0) / resources.gpu))
    return max(1, min(fitting, resources.concurrency or fitting))


def run_trials(conductor: Conductor, sweep: SweepConfig, folder: Path) -> bool:
    """Runs the conductor's trials on Ray until none is left or somebody presses Ctrl-C.

    Args:
        conductor: Decides everything.
        sweep: Resources of a trial, and its data.
        folder: The sweep's folder: checkpoints go to ``trials/NNNN`` in it.

    Returns:
        Whether it ran to the end (False: interrupted).
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
            "store": sweep.data.store,
            "checkpoints": str(folder / "trials" / f"{trial.number:04d}"),
            "threads": resources.cpu,
        }

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
