"""Ray Tune's searcher, scheduler and callback hooks, each of which calls the orchestrator."""

from __future__ import annotations

import logging
import os
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")  # the ledger keeps what they would write
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
os.environ.setdefault("RAY_CHDIR_TO_TRIAL_DIR", "0")
os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")  # gaptune handles signals itself
os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "3600")  # sweeps resume from the ledger, not from Ray's snapshots
os.environ.setdefault("TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S", "0")

import ray
from ray import tune
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from gaptune.config import SweepConfig
from gaptune.engine.cluster import is_ours, side_by_side
from gaptune.engine.failures import Failure, failure_of, ledger_failure
from gaptune.engine.heartbeat import Watch, forget_beats
from gaptune.engine.messages import WorkerMessage, WorkerTask
from gaptune.engine.signals import Stop
from gaptune.engine.worker import Worker
from gaptune.ledger import SweepHeader, TrialRecord
from gaptune.search.orchestrator import Orchestrator

P = ParamSpec("P")
T = TypeVar("T")

MAX_FAILURES = 2
"""How often a trial is retried after a failure that may pass (a killed worker, a lost node)."""


class _Guard:
    """Calls the methods of an orchestrator that write the ledger.

    Once the ledger cannot be written (the disk is full, say), the sweep is halted and nothing more is called.
    """

    def __init__(self, orchestrator: Orchestrator) -> None:
        self._orchestrator = orchestrator

    def __call__(self, method: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | None:
        if self._orchestrator.halted:
            return None
        try:
            return method(*args, **kwargs)
        except OSError as error:
            reason = ledger_failure(error)
            if reason is None:
                raise
            self._orchestrator.halt(reason)
            return None


class _NotSaved:
    """Leaves nothing of itself in Ray's snapshots, which it pickles: a sweep resumes from its ledger."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class _Searcher(_NotSaved, Searcher):  # type: ignore[misc]  # ray is untyped
    """Hands out the orchestrator's trials."""

    def __init__(
        self, orchestrator: Orchestrator, guard: _Guard, task: Callable[[TrialRecord], WorkerTask], most: int
    ) -> None:
        super().__init__()
        self._orchestrator = orchestrator
        self._guard = guard
        self._task = task
        self._most = most
        self._live: set[int] = set()

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        trials = self._orchestrator.record.trials
        self._live = {number for number in self._live if not trials[number].state.ended}
        if len(self._live) >= self._most and not self._orchestrator.halted:
            return None
        trial = self._guard(self._orchestrator.next_trial)
        if trial is None:
            return str(Searcher.FINISHED)
        self._live.add(trial.number)
        return self._task(trial).to_ray()

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Nothing: the scheduler has already reported it."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the ledger has it."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the ledger has it."""


class _Scheduler(_NotSaved, FIFOScheduler):  # type: ignore[misc]
    """Hands every result to the orchestrator, and its decision back to Ray."""

    def __init__(self, orchestrator: Orchestrator, guard: _Guard) -> None:
        super().__init__()
        self._orchestrator = orchestrator
        self._guard = guard
        self._controller: Any = None

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        self._controller = tune_controller

    def let_go(self) -> None:
        """Gives back to Ray what was reserved for trials."""
        if self._controller is not None:
            self._controller.cleanup()

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        message = WorkerMessage.from_ray(result)
        continues = self._guard(self._heard, trial.config["number"], message)
        return str(TrialScheduler.CONTINUE if continues else TrialScheduler.STOP)

    def _heard(self, number: int, message: WorkerMessage) -> bool:
        if message.halt is not None:
            self._orchestrator.halt(message.halt)
            return False
        if message.failure is not None:
            self._orchestrator.failed(number, message.failure)
            return False
        return self._orchestrator.reported(number, message.epoch, message.step, message.metrics)


class _Callback(_NotSaved, tune.Callback):  # type: ignore[misc]
    """Reports when a trial starts on a worker, is retried, or fails for good; ends workers that are stuck.

    Not the scheduler: Ray tells that of an error also when it is about to retry the trial.
    """

    def __init__(
        self, orchestrator: Orchestrator, guard: _Guard, folder: Path, stop: Stop, minutes: float | None, beats: str
    ) -> None:
        self._orchestrator = orchestrator
        self._guard = guard
        self._folder = folder
        self._stop = stop
        self._minutes = minutes
        self._beats = beats
        self._watch = Watch(minutes * 60 if minutes else None)
        self._running: dict[str, Trial] = {}
        self._stuck: set[int] = set()

    def on_step_begin(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """Between two of Ray's events: nothing is half done here."""
        self._stop.check()
        for place in self._watch.stuck(self._running):
            trial = self._running.pop(place)
            self._stuck.add(trial.config["number"])
            ray.kill(trial.temporary_state.ray_actor)  # Ray retries the trial with another worker

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self._running[self._place(trial)] = trial
        self._guard(self._orchestrator.started, trial.config["number"], str(trial.node_ip or "local"))

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self._running.pop(self._place(trial), None)

    def on_trial_recover(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        failure = self._failure(trial)
        if failure.may_pass:
            self._guard(self._orchestrator.retried, trial.config["number"], failure.reason)
        else:
            trial.config["given_up"] = True  # a field of WorkerTask; Ray cannot be kept from a retry
            self._guard(self._orchestrator.failed, trial.config["number"], failure.reason)

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self._guard(self._orchestrator.failed, trial.config["number"], self._failure(trial).reason)

    def end_workers(self) -> None:
        """Ends the workers that are training."""
        for trial in self._running.values():
            if trial.temporary_state.ray_actor is not None:
                ray.kill(trial.temporary_state.ray_actor)
        self._running.clear()

    def _place(self, trial: Trial) -> str:
        return f"{self._beats}/{trial.config['number']}"

    def _failure(self, trial: Trial) -> Failure:
        """Why a trial failed last; what Ray has of it is kept in ``error.txt``."""
        number = trial.config["number"]
        self._running.pop(self._place(trial), None)
        if number in self._stuck:
            self._stuck.remove(number)
            return Failure(f"worker stuck: no progress for {self._minutes:g} minutes")
        errors = Path(trial.error_file).read_text(encoding="utf-8", errors="replace")
        kept = self._folder / "trials" / f"{number:04d}" / "error.txt"  # Ray deletes its own file when it ends
        with suppress(OSError):
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_text(errors, encoding="utf-8")
        failure = failure_of(errors)
        if failure.has_traceback:
            return replace(failure, reason=f"{failure.reason} (traceback: {kept.relative_to(self._folder)})")
        return failure


def run_trials(orchestrator: Orchestrator, sweep: SweepConfig, folder: Path, checkpoints: str, stop: Stop) -> bool:
    """Runs the orchestrator's trials on Ray until none is left or the sweep is stopped.

    Args:
        orchestrator: Orchestrator of the sweep.
        sweep: The sweep config.
        folder: Directory of the sweep.
        checkpoints: Directory or URL of the trials' checkpoints, which go to ``NNNN`` in it.
        stop: Whether to end early.

    Returns:
        Whether it ran to the end (False: halted).

    Raises:
        Stopped: The sweep was stopped; the workers are gone.
    """
    resources = sweep.resources
    beats = uuid.uuid4().hex
    most = side_by_side(resources) + 1  # so that a worker that becomes free finds its next trial waiting
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(most)
    # A trial's traceback is in its file, and Ray's snapshots are not used: nobody needs to hear of either.
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    guard = _Guard(orchestrator)
    callback = _Callback(orchestrator, guard, folder, stop, resources.stall_minutes, beats)
    scheduler = _Scheduler(orchestrator, guard)
    here, header = str(Path.cwd()), orchestrator.record.header
    task = partial(_task, header=header, sweep=sweep, checkpoints=checkpoints, beats=beats, here=here)
    tuner = tune.Tuner(
        tune.with_resources(Worker, {"cpu": resources.cpu, "gpu": resources.gpus}),
        tune_config=tune.TuneConfig(
            search_alg=_Searcher(orchestrator, guard, task, most),
            scheduler=scheduler,
            num_samples=-1,
            reuse_actors=True,
            trial_dirname_creator=lambda trial: f"{trial.config['number']:04d}-{trial.trial_id[:6]}",
        ),
        run_config=tune.RunConfig(
            name="ray",
            storage_path=str(folder),
            verbose=0,
            callbacks=[callback],
            failure_config=tune.FailureConfig(max_failures=MAX_FAILURES),
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),  # trials keep their own
        ),
    )
    try:
        tuner.fit()
    except KeyboardInterrupt as error:  # of which Ray Tune itself takes no notice
        orchestrator.halt(str(error))  # what comes of the workers' end is no trial's failure
        callback.end_workers()
        if not is_ours():
            scheduler.let_go()
        raise
    if not is_ours():
        forget_beats(beats)
    return orchestrator.live == 0 and orchestrator.exhausted


def _task(
    trial: TrialRecord, *, header: SweepHeader, sweep: SweepConfig, checkpoints: str, beats: str, here: str
) -> WorkerTask:
    event = {
        "event": "trial",
        "at": trial.drawn_at,
        "sweep_id": header.id,
        "trial": trial.number,
        "candidate": trial.candidate,
        "params": trial.params,
        "config": trial.config,
        "method": trial.method,
        **({"sampler": trial.notes} if trial.notes else {}),
    }
    return WorkerTask(
        number=trial.number,
        config=_nested(trial.config),
        event=event,
        data=sweep.data.model_dump(),
        weights=header.weights,
        checkpoints=f"{checkpoints}/{trial.number:04d}",
        threads=sweep.resources.cpu,
        gpu=sweep.resources.gpus,
        folder=here,
        progress=f"{beats}/{trial.number}",
        system_metrics=sweep.resources.system_metrics,
    )


def _nested(config: Mapping[str, Any]) -> dict[str, Any]:
    """A flattened configuration in its groups again."""
    nested: dict[str, Any] = {}
    for path, value in config.items():
        group, _, leaf = path.rpartition(".")
        (nested.setdefault(group, {}) if group else nested)[leaf] = value
    return nested
