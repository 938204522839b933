"""The study: draws candidates with Optuna's ask-and-tell interface.

The study on disk (``study.journal``) is a copy of the ledger for Optuna's own tools. Each driver rebuilds it from the
ledger, so it is not needed to resume a sweep. An interrupted sweep draws the same candidates as an uninterrupted sweep,
because no state that affects a draw is only in memory: each candidate has a new sampler, seeded by the number of the
candidate, and the notes of a sampler are written to the ledger.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.storages import BaseStorage, InMemoryStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from gaptune.config import SweepConfig
from gaptune.ledger import State
from gaptune.search.samplers import make_sampler, population
from gaptune.space.model import RandomDraw, Space

FILE_NAME = "study.journal"

_TRIES = 100
"""Largest number of random draws to find new params in a space that is too large to list."""

_STATES = {
    State.WAITING: TrialState.RUNNING,
    State.RUNNING: TrialState.RUNNING,
    State.COMPLETE: TrialState.COMPLETE,
    State.PRUNED: TrialState.PRUNED,
    State.FAIL: TrialState.FAIL,
}


Known = tuple[Mapping[str, Any], Sequence[float]] | tuple[Mapping[str, Any], Sequence[float], Mapping[str, float]]


class Study:
    """Draws candidates and learns from their results. No params are drawn twice.

    Args:
        space: Search space.
        sweep: Sweep config with objectives and sampler.
        name: Name of the study.
        folder: Directory of the study; None to keep the study in memory.
        known: Finished trials of other sweeps to learn from: flattened configuration, values of the objectives, and the
            violation of each constraint, if any. Trials outside the space are ignored.
    """

    def __init__(
        self,
        space: Space,
        sweep: SweepConfig,
        name: str,
        *,
        folder: Path | None = None,
        known: Sequence[Known] = (),
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._space = space
        self._search = sweep.search
        self._study = optuna.create_study(
            study_name=name,
            directions=sweep.wanted.directions,
            storage=_fresh_storage(folder),
            sampler=make_sampler(sweep.search, 0),
        )
        self._all = space.everything()
        self._given = deque(space.combinations() if space.grid else space.points_to_evaluate)
        self._tried: set[str] = set()
        self._asked: dict[int, optuna.Trial] = {}
        self._ids: dict[int, int] = {}  # Optuna trial id by candidate number
        self._noted: dict[int, dict[str, Any]] = {}
        self._next = 0
        self._completed = 0
        self.learned_from = self._learn(known)

    @property
    def study(self) -> optuna.Study:
        """The Optuna study."""
        return self._study

    def pass_over(self, highest: int) -> None:
        """Skips all numbers up to this one, because a candidate whose record was lost had it."""
        self._next = max(self._next, highest + 1)

    def ask(self) -> tuple[int, dict[str, Any]] | None:
        """Draws the next candidate: first the untried points of the space, then those of the sampler.

        Returns:
            Number and params (by dotted path) of the candidate; None if no untried combination is left.
        """
        candidate = self._next
        while self._given and _key(self._given[0]) in self._tried:
            self._given.popleft()
        if (self._space.grid and not self._given) or (self._all is not None and len(self._tried) >= len(self._all)):
            return None
        self._study.sampler = make_sampler(self._search, candidate)
        before = set(self._of_study())
        trial, params = self._draw(self._given.popleft() if self._given else None)
        if _key(params) in self._tried:  # the same params and seed would give the same result
            self._study.tell(trial, state=TrialState.FAIL)
            other = self._untried(candidate)
            if other is None:
                return None
            trial, params = self._draw(other)
        self._asked[candidate], self._ids[candidate] = trial, trial._trial_id
        self._noted[candidate] = self._notes(trial, before)
        self._tried.add(_key(params))
        self._next += 1
        return candidate, params

    def notes(self, candidate: int) -> dict[str, Any]:
        """Returns the sampler's notes on a candidate from ``ask``, which ``resume`` needs."""
        return self._noted[candidate]

    def resume(
        self,
        params: Mapping[str, Any],
        state: State,
        values: Sequence[float],
        stds: Sequence[float],
        violations: Mapping[str, float],
        *,
        candidate: int | None = None,
        notes: Mapping[str, Any] | None = None,
    ) -> None:
        """Adds a candidate of an earlier driver to the study. Call it in order, before ``ask``.

        Args:
            params: Params of the candidate.
            state: State of the candidate.
            values: Means of the objectives, if COMPLETE.
            stds: Standard deviations of the objectives over the seeds.
            violations: Violation of each constraint.
            candidate: Number of the candidate; by default the next number.
            notes: Notes of the sampler on the candidate; None if unknown.
        """
        candidate = self._next if candidate is None else candidate
        self.pass_over(candidate)
        complete = state is State.COMPLETE
        trial_id = self._add(
            params,
            state,
            values=list(values) if complete else None,
            user_attrs={"stds": list(stds)} if complete else {},
            constraints=dict(violations) if complete and violations else None,
            system_attrs=self._attributes(notes or {}),
        )
        if not state.ended:
            self._asked[candidate] = optuna.Trial(self._study, trial_id)
        self._ids[candidate] = trial_id
        self._tried.add(_key(params))
        self._completed += complete

    def tell(
        self,
        candidate: int,
        state: State,
        values: Sequence[float],
        stds: Sequence[float],
        violations: Mapping[str, float],
    ) -> None:
        """Adds the result of a candidate to the study.

        Args:
            candidate: Number of the candidate.
            state: COMPLETE, PRUNED, or FAIL. Values count only if the candidate is COMPLETE.
            values: Means of the objectives.
            stds: Standard deviations of the objectives over the seeds.
            violations: Violation of each constraint; 0 or less if the constraint is satisfied.
        """
        trial = self._asked.pop(candidate)
        if state is State.COMPLETE:
            trial.set_user_attr("stds", list(stds))
            for name, violation in violations.items():
                trial.set_constraint(name, violation)
        self._study.tell(trial, list(values) if state is State.COMPLETE else None, state=_STATES[state])

    def close(self) -> None:
        """Marks RUNNING candidates in the study on disk as failed. The next driver rebuilds the study."""
        for candidate in list(self._asked):
            self.tell(candidate, State.FAIL, (), (), {})

    def _draw(self, given: Mapping[str, Any] | None) -> tuple[optuna.Trial, dict[str, Any]]:
        if given is not None:
            self._study.enqueue_trial(self._space.varied_params(given))
        trial = self._study.ask()
        sampler = self._study.sampler
        if isinstance(sampler, optuna.samplers.NSGAIISampler):  # it skips enqueued points by default
            sampler.get_trial_generation(self._study, self._study._storage.get_trial(trial._trial_id))
        return trial, self._space.suggest(trial)

    def _untried(self, candidate: int) -> dict[str, Any] | None:
        """Draws untried params at random; None if none are found."""
        rng = np.random.default_rng([self._search.seed, candidate])
        if self._all is not None:
            left = [params for params in self._all if _key(params) not in self._tried]
            return left[int(rng.integers(len(left)))] if left else None
        drawn = (self._space.suggest(RandomDraw(rng)) for _ in range(_TRIES))
        return next((params for params in drawn if _key(params) not in self._tried), None)

    def _learn(self, known: Sequence[Known]) -> int:
        """Adds the trials of other sweeps that lie in this space, and returns their number."""
        usable = [one for one in known if one[0] in self._space]
        first = {_generation_key(): 0} if self._evolves else {}  # they are the parents of the first candidates
        for number, (params, values, *broken) in enumerate(usable):
            self._ids[-1 - number] = self._add(
                params,
                State.COMPLETE,
                values=list(values),
                user_attrs={"known": True},
                constraints=dict(*broken) or None,
                system_attrs=dict(first),
            )
        return len(usable)

    def _add(self, params: Mapping[str, Any], state: State, **content: Any) -> int:
        varied = self._space.varied_params(params)
        fixed = optuna.trial.FixedTrial(varied)
        self._space.suggest(fixed)  # adds the distributions of the active parameters to the trial
        trial = optuna.trial.create_trial(
            state=_STATES[state],
            params={name: varied[name] for name in fixed.distributions},
            distributions=fixed.distributions,
            **content,
        )
        self._study.add_trial(trial)
        return int(self._study.get_trials(deepcopy=False)[-1]._trial_id)

    @property
    def _evolves(self) -> bool:
        return isinstance(self._study.sampler, optuna.samplers.NSGAIISampler)

    def _of_study(self) -> dict[str, Any]:
        return dict(self._study._storage.get_study_system_attrs(self._study._study_id)) if self._evolves else {}

    def _notes(self, trial: optuna.Trial, before: set[str]) -> dict[str, Any]:
        """Returns what NSGA-II stores in the study: the trial's generation and the parents of a new generation."""
        if not self._evolves:
            return {}
        generation = self._study._storage.get_trial(trial._trial_id).system_attrs.get(_generation_key())
        notes: dict[str, Any] = {} if generation is None else {"generation": generation}
        for name, ids in self._of_study().items():
            if name not in before and name.startswith(_parents_key()):
                candidates = {trial_id: number for number, trial_id in self._ids.items()}
                notes["parents"] = {name.removeprefix(_parents_key()): [candidates[one] for one in ids]}
        return notes

    def _attributes(self, notes: Mapping[str, Any]) -> dict[str, Any]:
        """The inverse of ``_notes``. Without notes, the generation follows from the number of complete candidates."""
        if not self._evolves:
            return {}
        for generation, numbers in notes.get("parents", {}).items():
            ids = [self._ids[number] for number in numbers if number in self._ids]
            self._study._storage.set_study_system_attr(self._study._study_id, f"{_parents_key()}{generation}", ids)
        return {_generation_key(): notes.get("generation", self._completed // population(self._search))}


def _key(params: Mapping[str, Any]) -> str:
    return json.dumps(params, sort_keys=True)


def _generation_key() -> str:
    return str(optuna.samplers.NSGAIISampler._get_generation_key())


def _parents_key() -> str:
    return str(optuna.samplers.NSGAIISampler._get_parent_cache_key_prefix())


def _fresh_storage(folder: Path | None) -> BaseStorage:
    if folder is None:
        return InMemoryStorage()
    path = folder / FILE_NAME
    path.unlink(missing_ok=True)
    return JournalStorage(JournalFileBackend(str(path)))
