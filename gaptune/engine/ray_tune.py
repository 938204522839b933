"""Ray Tune's searcher, scheduler and callback hooks, each of which calls the orchestrator."""

from __future__ import annotations

import logging
import os
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
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
from gaptune.engine.autoscaler import autoscales
from gaptune.engine.cluster import is_ours, side_by_side
from gaptune.engine.failures import Failure, failure_of, ledger_failure
from gaptune.engine.groups import Groups
from gaptune.engine.heartbeat import Watch, epochs_of, forget_beats
from gaptune.engine.messages import WorkerMessage, WorkerTask
from gaptune.engine.nodes import Nodes, node_of
from gaptune.engine.over import forget_over, tell_over
from gaptune.engine.rank_group import placement_of
from gaptune.engine.retries import Retries
from gaptune.engine.signals import Stop
from gaptune.engine.tasks import worker_task
from gaptune.engine.waiting import Waiting
from gaptune.engine.worker import Worker
from gaptune.ledger import TrialRecord
from gaptune.search.orchestrator import Orchestrator

P = ParamSpec("P")
T = TypeVar("T")

_LOOK_S = 1.0
"""Seconds between two looks at how far the workers are."""


class _Guard:
    """Calls what writes the ledger: methods of an orchestrator, and of ``Groups``.

    Once the ledger cannot be written (the disk is full, say), the sweep is halted and nothing more is called.
    """

    def __init__(self, orchestrator: Orchestrator) -> None:
        self._orchestrator = orchestrator

    @property
    def halted(self) -> bool:
        """Whether nothing more is called."""
        return self._orchestrator.halted is not None

    def __call__(self, method: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | None:
        if self.halted:
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
    """Hands out the orchestrator's trials in groups, each as one trial of Ray."""

    def __init__(
        self, groups: Groups, guard: _Guard, task: Callable[[list[TrialRecord], str], WorkerTask], most: int
    ) -> None:
        super().__init__()
        self._groups = groups
        self._guard = guard
        self._task = task
        self._most = most

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        if self._groups.running >= self._most and not self._guard.halted:
            return None
        trials = self._guard(self._groups.next, trial_id)
        if trials:
            return self._task(trials, trial_id).to_ray()
        return None if self._groups.pending and not self._guard.halted else str(Searcher.FINISHED)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Nothing: the scheduler has already reported it."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the ledger has it."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the ledger has it."""


class _Scheduler(_NotSaved, FIFOScheduler):  # type: ignore[misc]
    """Hands every result to the orchestrator, and tells worker and Ray what follows from it."""

    def __init__(self, orchestrator: Orchestrator, groups: Groups, guard: _Guard, beats: str) -> None:
        super().__init__()
        self._orchestrator = orchestrator
        self._groups = groups
        self._guard = guard
        self._beats = beats
        self._controller: Any = None

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        self._controller = tune_controller

    def let_go(self) -> None:
        """Gives back to Ray what was reserved for trials."""
        if self._controller is not None:
            self._controller.cleanup()

    def give_up(self, trial: Trial) -> None:
        """Ends a trial that Ray is about to try again."""
        self._controller.stop_trial(trial)

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        self._guard(self._heard, trial, WorkerMessage.from_ray(result))
        left = [] if self._guard.halted else self._groups.left(trial.trial_id)
        if not left:
            return str(TrialScheduler.STOP)
        numbers = _numbers(trial)
        if len(left) < len(numbers):
            tell_over(_place(self._beats, trial), set(numbers) - set(left))
        return str(TrialScheduler.CONTINUE)

    def _heard(self, trial: Trial, message: WorkerMessage) -> None:
        if message.halt is not None:
            self._orchestrator.halt(message.halt)
            return
        for one in message.trials:
            if one.failure is None:
                self._orchestrator.reported(one.number, one.epoch, one.step, one.metrics)
            else:
                self._orchestrator.failed(one.number, one.failure)
        if (failure := message.failure) is not None:
            self._groups.failed(trial.trial_id, lambda number: failure, too_large=message.too_large)


class _Callback(_NotSaved, tune.Callback):  # type: ignore[misc]  # ray is untyped
    """Reports when trials start on a worker, are retried, or fail for good; ends workers that are stuck.

    Not the scheduler: Ray tells that of an error also when it is about to retry the trial.
    """

    def __init__(
        self,
        orchestrator: Orchestrator,
        groups: Groups,
        guard: _Guard,
        scheduler: _Scheduler,
        *,
        folder: Path,
        stop: Stop,
        minutes: float | None,
        beats: str,
        progress: Callable[[int, float], None],
        waiting: Waiting | None,
    ) -> None:
        self._orchestrator = orchestrator
        self._groups = groups
        self._guard = guard
        self._scheduler = scheduler
        self._folder = folder
        self._stop = stop
        self._minutes = minutes
        self._beats = beats
        self._progress = progress
        self._waiting = waiting
        self._looked = time.monotonic()
        self._watch = Watch(minutes * 60 if minutes else None)
        self._running: dict[str, Trial] = {}
        self._stuck: set[str] = set()
        self._nodes = Nodes()
        self._node: dict[str, str | None] = {}
        self._retries = Retries(self._nodes.name)

    def on_step_begin(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """Between two of Ray's events: nothing is half done here."""
        self._stop.check()
        for place in self._watch.stuck(self._running):
            trial = self._running.pop(place)
            self._stuck.add(place)
            ray.kill(trial.temporary_state.ray_actor)  # Ray retries the trial with another worker
        if time.monotonic() - self._looked >= _LOOK_S:
            self._looked = time.monotonic()
            self._show_progress()
            if self._waiting is not None:
                running = len(self._running)
                self._waiting.look(running, self._groups.running - running)

    def _show_progress(self) -> None:
        for place, trial in self._running.items():
            epochs = epochs_of(self._watch.written(place))
            if epochs is not None:
                for number in self._groups.left(trial.trial_id):
                    self._progress(number, epochs)

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self._running[_place(self._beats, trial)] = trial
        node = self._node[trial.trial_id] = node_of(trial.temporary_state.ray_actor)
        for number in self._groups.left(trial.trial_id):
            self._guard(self._orchestrator.started, number, self._nodes.name(node))

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self._running.pop(_place(self._beats, trial), None)
        self._node.pop(trial.trial_id, None)

    def on_trial_recover(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Ray always tries again: how often that makes sense is decided here."""
        left, known = self._groups.left(trial.trial_id), self._orchestrator.record.trials
        epoch = max((known[number].epoch for number in left), default=0)
        node = self._node.get(trial.trial_id)
        failure = self._retries.after(trial.trial_id, self._failure(trial), node, epoch)
        if failure.may_pass:
            for number in left:
                self._guard(self._orchestrator.retried, number, self._reason(failure, number))
        else:
            self._guard(self._groups.failed, trial.trial_id, partial(self._reason, failure))
        if left := self._groups.left(trial.trial_id):
            trial.config["trials"] = [each for each in trial.config["trials"] if each["number"] in left]
        else:
            self._scheduler.give_up(trial)

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self._guard(self._groups.failed, trial.trial_id, partial(self._reason, self._failure(trial)))

    def end_workers(self) -> None:
        """Ends the workers that are training."""
        for trial in self._running.values():
            if trial.temporary_state.ray_actor is not None:
                ray.kill(trial.temporary_state.ray_actor)
        self._running.clear()

    def _failure(self, trial: Trial) -> Failure:
        """Why a worker failed last; what Ray has of it is kept in ``error.txt`` of each of its trials."""
        place = _place(self._beats, trial)
        self._running.pop(place, None)
        if place in self._stuck:
            self._stuck.remove(place)
            return Failure(f"worker stuck: no progress for {self._minutes:g} minutes", lost="worker")
        errors = Path(trial.error_file).read_text(encoding="utf-8", errors="replace")
        for number in self._groups.left(trial.trial_id):
            kept = self._folder / _error_file(number)  # Ray deletes its own file when it ends
            with suppress(OSError):
                kept.parent.mkdir(parents=True, exist_ok=True)
                kept.write_text(errors, encoding="utf-8")
        return failure_of(errors)

    @staticmethod
    def _reason(failure: Failure, number: int) -> str:
        return failure.reason + (f" (traceback: {_error_file(number)})" if failure.has_traceback else "")


def _numbers(trial: Trial) -> list[int]:
    """The sweep's trials in a trial of Ray, whose config is a ``WorkerTask``."""
    return [each["number"] for each in trial.config["trials"]]


def _place(beats: str, trial: Trial) -> str:
    return f"{beats}/{trial.trial_id}"


def _error_file(number: int) -> str:
    return f"trials/{number:04d}/error.txt"


def run_trials(
    orchestrator: Orchestrator,
    sweep: SweepConfig,
    folder: Path,
    checkpoints: str,
    stop: Stop,
    progress: Callable[[int, float], None],
    say: Callable[[str], None],
) -> bool:
    """Runs the orchestrator's trials on Ray until none is left or the sweep is stopped.

    Args:
        orchestrator: Orchestrator of the sweep.
        sweep: The sweep config.
        folder: Directory of the sweep.
        checkpoints: Directory or URL of the trials' checkpoints, which go to ``NNNN`` in it.
        stop: Whether to end early.
        progress: Called now and then for each running trial with its number and the epochs trained so far.
        say: Prints a line: why trials wait for a worker.

    Returns:
        Whether it ran to the end (False: halted).

    Raises:
        Stopped: The sweep was stopped; the workers are gone.
    """
    resources = sweep.resources
    beats = uuid.uuid4().hex
    allowed, full = side_by_side(resources)
    most = allowed
    if full and resources.num_lanes == 1:
        most += 1  # so that a worker that becomes free finds its next trial waiting; a group would be drawn too early
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(most)
    # A trial's traceback is in its file, and Ray's snapshots are not used: nobody needs to hear of either.
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    guard = _Guard(orchestrator)
    groups = Groups(orchestrator, resources.num_lanes)
    scheduler = _Scheduler(orchestrator, groups, guard, beats)
    callback = _Callback(
        orchestrator,
        groups,
        guard,
        scheduler,
        folder=folder,
        stop=stop,
        minutes=resources.stall_minutes,
        beats=beats,
        progress=progress,
        waiting=None if is_ours() else Waiting(resources, allowed, autoscales=autoscales(), say=say),
    )
    here, header = str(Path.cwd()), orchestrator.record.header
    task = partial(worker_task, header=header, sweep=sweep, checkpoints=checkpoints, beats=beats, here=here)
    tuner = tune.Tuner(
        tune.with_resources(Worker, placement_of(resources)),
        tune_config=tune.TuneConfig(
            search_alg=_Searcher(groups, guard, task, most),
            scheduler=scheduler,
            num_samples=-1,
            reuse_actors=True,
            trial_dirname_creator=lambda trial: f"{_numbers(trial)[0]:04d}-{trial.trial_id[:6]}",
        ),
        run_config=tune.RunConfig(
            name="ray",
            storage_path=str(folder),
            verbose=0,
            callbacks=[callback],
            failure_config=tune.FailureConfig(max_failures=-1),
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
        forget_over(beats)
    return orchestrator.live == 0 and orchestrator.exhausted
