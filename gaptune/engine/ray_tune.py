"""Ray Tune's hooks (searcher, scheduler, callback), each of which asks or tells the orchestrator."""

from __future__ import annotations

import logging
import os
import re
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")  # the ledger keeps what they would write
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
os.environ.setdefault("RAY_CHDIR_TO_TRIAL_DIR", "0")
os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")  # gaptune hears signals itself
os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "3600")  # sweeps go on from the ledger, not from Ray's snapshots
os.environ.setdefault("TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S", "0")

import ray
from ray import tune
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from gaptune.config import SweepConfig
from gaptune.engine.cluster import is_ours, side_by_side
from gaptune.engine.heartbeat import Watch, forget_beats
from gaptune.engine.signals import Stop
from gaptune.engine.worker import FAULT, FULL_DISK, HALT, OVER, Worker
from gaptune.ledger import LostError, TrialRecord
from gaptune.search.orchestrator import Orchestrator

T = TypeVar("T")

MAX_FAILURES = 2
"""How often a trial is taken up again after a fault that may pass (a killed worker, a lost node)."""


_EXCEPTION = re.compile(r"[A-Za-z_][\w.]*(: |$)")
"""How the last line of a traceback begins."""


class _NotSaved:
    """Leaves nothing of itself in Ray's snapshots, which it pickles: a sweep goes on from its ledger."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class _Searcher(_NotSaved, Searcher):  # type: ignore[misc]  # ray is untyped
    """Hands out the orchestrator's trials."""

    def __init__(
        self, orchestrator: Orchestrator, describe: Callable[[TrialRecord], dict[str, Any]], most: int
    ) -> None:
        super().__init__()
        self._orchestrator = orchestrator
        self._describe = describe
        self._most = most
        self._live: set[int] = set()

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        trials = self._orchestrator.record.trials
        self._live = {number for number in self._live if not trials[number].state.ended}
        if len(self._live) >= self._most and not self._orchestrator.halted:
            return None
        trial = _while_written(self._orchestrator, self._orchestrator.next_trial)
        if trial is None:
            return str(Searcher.FINISHED)
        self._live.add(trial.number)
        return self._describe(trial)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Nothing: the scheduler has already said it."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the ledger has it."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the ledger has it."""


class _Scheduler(_NotSaved, FIFOScheduler):  # type: ignore[misc]
    """Takes every result to the orchestrator, and its word back to Ray."""

    def __init__(self, orchestrator: Orchestrator) -> None:
        super().__init__()
        self._orchestrator = orchestrator
        self._controller: Any = None

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        self._controller = tune_controller

    def let_go(self) -> None:
        """Gives back to Ray what was reserved for trials."""
        if self._controller is not None:
            self._controller.cleanup()

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        goes_on = _while_written(self._orchestrator, lambda: self._heard(trial.config["number"], result))
        return str(TrialScheduler.CONTINUE if goes_on else TrialScheduler.STOP)

    def _heard(self, number: int, result: dict[str, Any]) -> bool:
        if HALT in result:
            self._orchestrator.halt(result[HALT])
            return False
        if FAULT in result:
            self._orchestrator.failed(number, result[FAULT])
            return False
        scores = {name.removeprefix("scores/"): value for name, value in result.items() if name.startswith("scores/")}
        return self._orchestrator.reported(number, result["epoch"], result["step"], scores)


class _Callback(_NotSaved, tune.Callback):  # type: ignore[misc]
    """Says when a trial starts on a worker, is taken up again, or breaks for good; ends workers that are stuck.

    Not the scheduler: Ray tells that of an error also when it is about to try the trial again.
    """

    def __init__(self, orchestrator: Orchestrator, folder: Path, stop: Stop, minutes: float | None, beats: str) -> None:
        self._orchestrator = orchestrator
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
            ray.kill(trial.temporary_state.ray_actor)  # Ray tries the trial again, with another worker

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        number, node = trial.config["number"], str(trial.node_ip or "local")
        self._running[f"{self._beats}/{number}"] = trial
        _while_written(self._orchestrator, lambda: self._orchestrator.started(number, node))

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self._running.pop(f"{self._beats}/{trial.config['number']}", None)

    def on_trial_recover(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        number, reason = trial.config["number"], self._reason(trial)
        if reason.startswith(
            "out of memory"
        ):  # the same parameters would run short again; Ray cannot be kept from trying
            trial.config[OVER] = True
            _while_written(self._orchestrator, lambda: self._orchestrator.failed(number, reason))
        else:
            _while_written(self._orchestrator, lambda: self._orchestrator.retried(number, reason))

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        number, reason = trial.config["number"], self._reason(trial)
        _while_written(self._orchestrator, lambda: self._orchestrator.failed(number, reason))

    def end_workers(self) -> None:
        """Ends the workers that are training."""
        for trial in self._running.values():
            if trial.temporary_state.ray_actor is not None:
                ray.kill(trial.temporary_state.ray_actor)
        self._running.clear()

    def _reason(self, trial: Trial) -> str:
        number = trial.config["number"]
        self._running.pop(f"{self._beats}/{number}", None)
        if number in self._stuck:
            self._stuck.remove(number)
            return f"worker stuck: no progress for {self._minutes:g} minutes"
        errors = Path(trial.error_file).read_text(encoding="utf-8", errors="replace")
        kept = self._folder / "trials" / f"{number:04d}" / "error.txt"  # Ray's own goes with Ray
        with suppress(OSError):
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_text(errors, encoding="utf-8")
        reason = reason_of(errors)
        where = f" (traceback: {kept.relative_to(self._folder)})" if reason.startswith("exception") else ""
        return reason + where


def _while_written(orchestrator: Orchestrator, call: Callable[[], T]) -> T | None:
    """Does something that writes the ledger; once it cannot be written (the disk is full, say), nothing more."""
    if orchestrator.halted:
        return None
    try:
        return call()
    except OSError as error:
        if isinstance(error, LostError):
            orchestrator.halt(str(error))
        elif error.errno in FULL_DISK:
            orchestrator.halt(f"{error.strerror} (the ledger)")
        else:
            raise
        return None


def reason_of(errors: str) -> str:
    """Why a trial broke last, in one line.

    Args:
        errors: The text that Ray keeps of a trial's errors, each under its own head.
    """
    last = errors.rpartition("Failure # ")[2]
    lines = [line for line in last.splitlines()[1:] if line.strip()] or ["unknown"]
    first = lines[0].strip()
    if "OutOfMemoryError" in last or "running low on memory" in last:
        return "out of memory: the machine ran short, and Ray ended the worker"
    if "node has died" in last or "node was terminated" in last or "NodeDiedError" in last:
        return f"node lost: {first}"
    if first.startswith("The actor") and "creation task" not in first:
        return f"worker lost: {_detail(lines)}"
    named = [line for line in lines if _EXCEPTION.match(line)]  # its message may have further lines
    return f"exception: {(named or lines)[-1].strip()}"


def _detail(lines: list[str]) -> str:
    """What Ray knows of the end of a worker, without its advice."""
    detail = " ".join(lines).partition("Worker exit detail: ")[2] or lines[-1].strip()
    return detail.partition(" There are some potential root causes")[0].strip()


def run_trials(orchestrator: Orchestrator, sweep: SweepConfig, folder: Path, checkpoints: str, stop: Stop) -> bool:
    """Runs the orchestrator's trials on Ray until none is left or somebody wants an end.

    Args:
        orchestrator: Decides everything.
        sweep: Resources of a trial, and its data.
        folder: The sweep's folder.
        checkpoints: Folder or URL of the trials' checkpoints, which go to ``NNNN`` in it.
        stop: Whether somebody wants an end.

    Returns:
        Whether it ran to the end (False: halted).

    Raises:
        Stopped: Somebody wanted an end; the workers are gone.
    """
    resources = sweep.resources
    drawn_ahead = 1  # so that a worker that becomes free finds its next trial waiting
    here, beats = str(Path.cwd()), uuid.uuid4().hex
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
                "sweep_id": orchestrator.record.header["id"],
                "trial": trial.number,
                "candidate": trial.candidate,
                "params": trial.params,
                "config": trial.config,
                "method": trial.method,
                **({"sampler": trial.notes} if trial.notes else {}),
            },
            "data": sweep.data.model_dump(),
            "weights": orchestrator.record.header.get("weights"),
            "checkpoints": f"{checkpoints}/{trial.number:04d}",
            "threads": resources.cpu,
            "gpu": resources.gpu,
            "folder": here,
            "progress": f"{beats}/{trial.number}",
            "system_metrics": resources.system_metrics,
        }

    # A trial's traceback is in its file, and Ray's snapshots are not used: nobody needs to hear of either.
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    callback = _Callback(orchestrator, folder, stop, resources.stall_minutes, beats)
    scheduler = _Scheduler(orchestrator)
    tuner = tune.Tuner(
        tune.with_resources(Worker, {"cpu": resources.cpu, "gpu": resources.gpu}),
        tune_config=tune.TuneConfig(
            search_alg=_Searcher(orchestrator, describe, side_by_side(resources) + drawn_ahead),
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
        orchestrator.halt(str(error))  # what comes of the workers' end is no trial's fault
        callback.end_workers()
        if not is_ours():
            scheduler.let_go()
        raise
    if not is_ours():
        forget_beats(beats)
    return orchestrator.live == 0 and orchestrator.exhausted
