"""Optuna by ask and tell: which knobs to try next.

The study on disk (``study.journal``) mirrors the ledger, so that Optuna's own tools can look at it. It is not needed to
go on with a sweep: it is made from the ledger each time a driver starts.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage, InMemoryStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from gaptune.config import Search, SweepConfig
from gaptune.ledger import State, SweepRecord, TrialRecord
from gaptune.space import Space

FILE_NAME = "study.journal"

_STATES = {
    State.WAITING: TrialState.RUNNING,
    State.RUNNING: TrialState.RUNNING,
    State.COMPLETE: TrialState.COMPLETE,
    State.PRUNED: TrialState.PRUNED,
    State.FAIL: TrialState.FAIL,
}


class Asker:
    """Draws sets of knobs and learns what became of them. Numbers of trials are the study's own.

    Args:
        space: What may be tried.
        sweep: Objectives and sampler.
        record: What has happened so far; the study starts from there.
        folder: Where the study is kept; None keeps it in memory.
    """

    def __init__(self, space: Space, sweep: SweepConfig, record: SweepRecord, folder: Path | None = None) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._space = space
        self._study = optuna.create_study(
            study_name=record.name,
            directions=["maximize" if objective.maximize else "minimize" for objective in sweep.objectives],
            storage=_fresh_storage(folder),
            sampler=make_sampler(sweep.search, already_drawn=len(record.trials)),
        )
        self._given = space.combinations() if space.grid else list(space.points)
        for number in sorted(record.trials):
            self._study.add_trial(self._frozen(record.trials[number], record))
        self._drawn = len(record.trials)

    @property
    def study(self) -> optuna.Study:
        """The Optuna study."""
        return self._study

    def ask(self) -> tuple[int, dict[str, Any]]:
        """Draws the next set of knobs: given points first, then the sampler's.

        Returns:
            The trial's number and its knobs by dotted path.
        """
        if self._drawn < len(self._given):
            self._study.enqueue_trial(self._space.params(self._given[self._drawn]))
        self._drawn += 1
        trial = self._study.ask()
        return trial.number, self._space.suggest(trial)

    def tell(self, number: int, state: State, values: Sequence[float] | None = None) -> None:
        """Says how a trial ended.

        Args:
            number: The trial.
            state: COMPLETE, PRUNED or FAIL.
            values: The objectives in order; only for COMPLETE, and finite.
        """
        self._study.tell(number, list(values) if values is not None else None, state=_STATES[state])

    def _frozen(self, trial: TrialRecord, record: SweepRecord) -> FrozenTrial:
        params = self._space.params(trial.knobs)
        fixed = optuna.trial.FixedTrial(params)
        self._space.suggest(fixed)  # so that the conditions decide which distributions belong to it
        return optuna.trial.create_trial(
            state=_STATES[trial.state],
            values=record.values(trial) if trial.state is State.COMPLETE else None,
            params=params,
            distributions=fixed.distributions,
        )


def make_sampler(search: Search, already_drawn: int) -> BaseSampler:
    """The Optuna sampler that a sweep names.

    Args:
        search: Its name, seed and start.
        already_drawn: Trials drawn by earlier drivers. It goes into the seed: a sampler that is started anew with the
            seed of the first would draw the same numbers again.
    """
    seed = search.seed + 7919 * already_drawn
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        match search.sampler:
            case "tpe":
                return optuna.samplers.TPESampler(
                    n_startup_trials=search.startup_trials,
                    multivariate=True,
                    group=True,
                    constant_liar=True,
                    seed=seed,
                )
            case "nsga2":
                return optuna.samplers.NSGAIISampler(population_size=max(2, search.startup_trials), seed=seed)
            case "gp":
                return optuna.samplers.GPSampler(n_startup_trials=search.startup_trials, seed=seed)
            case "random" | "grid":
                return optuna.samplers.RandomSampler(seed=seed)


def _fresh_storage(folder: Path | None) -> BaseStorage:
    if folder is None:
        return InMemoryStorage()
    path = folder / FILE_NAME
    path.unlink(missing_ok=True)
    return JournalStorage(JournalFileBackend(str(path)))
