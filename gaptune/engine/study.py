"""Optuna by ask and tell: which knobs to try next.

The study on disk (``study.journal``) mirrors the ledger, so that Optuna's own tools can look at it. It is not needed to
go on with a sweep: it is made from the ledger each time a driver starts.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage, InMemoryStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from gaptune.config import Search, SweepConfig
from gaptune.ledger import State
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
    """Draws sets of knobs and learns what became of them.

    Args:
        space: What may be tried.
        sweep: Objectives and sampler.
        name: The study's name.
        folder: Where the study is kept; None keeps it in memory.
        known: Finished trials of other sweeps to learn from, as flattened configurations and values of the
            objectives; what lies outside the space is passed over.
    """

    def __init__(
        self,
        space: Space,
        sweep: SweepConfig,
        name: str,
        *,
        folder: Path | None = None,
        known: Sequence[tuple[Mapping[str, Any], Sequence[float]]] = (),
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._space = space
        self._search = sweep.search
        self._study = optuna.create_study(
            study_name=name,
            directions=["maximize" if objective.maximize else "minimize" for objective in sweep.objectives],
            storage=_fresh_storage(folder),
            sampler=make_sampler(sweep.search, already_drawn=0),
        )
        self._given = space.combinations() if space.grid else list(space.points)
        self._asked: dict[int, optuna.Trial] = {}
        self._drawn = 0
        self.learnt_from = self._learn(known)

    @property
    def study(self) -> optuna.Study:
        """The Optuna study."""
        return self._study

    def ask(self) -> tuple[int, dict[str, Any]]:
        """Draws the next set of knobs: given points first, then the sampler's.

        Returns:
            The suggestion's number and its knobs by dotted path.
        """
        if self._drawn < len(self._given):
            self._study.enqueue_trial(self._space.params(self._given[self._drawn]))
        trial = self._study.ask()
        self._asked[self._drawn] = trial
        self._drawn += 1
        return self._drawn - 1, self._space.suggest(trial)

    def resume(
        self,
        knobs: Mapping[str, Any],
        state: State,
        values: Sequence[float],
        spread: Sequence[float],
        violations: Mapping[str, float],
    ) -> None:
        """Puts the next suggestion of an earlier driver into the study; call it in order, before ``ask``.

        Args:
            knobs: What was suggested.
            state: Where the suggestion stands.
            values: Means of the objectives, if COMPLETE.
            spread: Their standard deviations over seeds.
            violations: By how much each constraint is broken.
        """
        complete = state is State.COMPLETE
        self._study.add_trial(
            self._frozen(
                knobs,
                state,
                values=list(values) if complete else None,
                user_attrs={"spread": list(spread)} if complete else {},
                constraints=dict(violations) if complete and violations else None,
            )
        )
        if not state.ended:
            trial_id = self._study.get_trials(deepcopy=False)[-1]._trial_id
            self._asked[self._drawn] = optuna.Trial(self._study, trial_id)
        self._drawn += 1
        self._study.sampler = make_sampler(self._search, already_drawn=self._drawn)

    def tell(
        self,
        suggestion: int,
        state: State,
        values: Sequence[float],
        spread: Sequence[float],
        violations: Mapping[str, float],
    ) -> None:
        """Says how a suggestion ended.

        Args:
            suggestion: Its number.
            state: COMPLETE, PRUNED or FAIL; only COMPLETE has an outcome, and what is not finite never counts as one.
            values: Means of the objectives.
            spread: Their standard deviations over seeds.
            violations: By how much each constraint is broken; 0 or less is kept.
        """
        trial = self._asked.pop(suggestion)
        if state is State.COMPLETE:
            trial.set_user_attr("spread", list(spread))
            for name, violation in violations.items():
                trial.set_constraint(name, violation)
        self._study.tell(trial, list(values) if state is State.COMPLETE else None, state=_STATES[state])

    def close(self) -> None:
        """Leaves no suggestion RUNNING in the study on disk; the next driver makes it anew."""
        for suggestion in list(self._asked):
            self.tell(suggestion, State.FAIL, (), (), {})

    def _learn(self, known: Sequence[tuple[Mapping[str, Any], Sequence[float]]]) -> int:
        """Adds what other sweeps found out, where their knobs lie in this space; returns how many trials did."""
        usable = [(knobs, values) for knobs, values in known if knobs in self._space]
        for knobs, values in usable:
            trial = self._frozen(knobs, State.COMPLETE, values=list(values), user_attrs={"known": True})
            self._study.add_trial(trial)
        return len(usable)

    def _frozen(self, knobs: Mapping[str, Any], state: State, **content: Any) -> FrozenTrial:
        params = self._space.params(knobs)
        fixed = optuna.trial.FixedTrial(params)
        self._space.suggest(fixed)  # so that the conditions decide which distributions belong to it
        return optuna.trial.create_trial(
            state=_STATES[state],
            params={name: params[name] for name in fixed.distributions},
            distributions=fixed.distributions,
            **content,
        )


def make_sampler(search: Search, already_drawn: int) -> BaseSampler:
    """The Optuna sampler that a sweep names.

    Args:
        search: Its name, seed and start.
        already_drawn: Suggestions of earlier drivers. It goes into the seed: a sampler that is started anew with the
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
