"""Samplers of Optuna by their names in a sweep config.

To add a sampler, write a function, add it to ``SAMPLERS``, and add its name to ``gaptune.config.SearchConfig``.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import optuna
from optuna.samplers import BaseSampler

from gaptune.config import SearchConfig


def make_sampler(search: SearchConfig, candidate: int) -> BaseSampler:
    """Creates the Optuna sampler for one candidate.

    Args:
        search: Search config with the name, seed, and start-up trials of the sampler.
        candidate: Number of the candidate; the seed of the sampler depends on it.
    """
    seed = int(np.random.SeedSequence([search.seed, candidate]).generate_state(1)[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return SAMPLERS[search.sampler](search, seed)


def population(search: SearchConfig) -> int:
    """Returns the number of candidates in a generation of ``nsga2``."""
    return max(2, search.startup_trials)


def _tpe(search: SearchConfig, seed: int) -> BaseSampler:
    return optuna.samplers.TPESampler(
        n_startup_trials=search.startup_trials,
        multivariate=True,
        group=True,
        constant_liar=True,
        seed=seed,
    )


def _nsga2(search: SearchConfig, seed: int) -> BaseSampler:
    return optuna.samplers.NSGAIISampler(population_size=population(search), seed=seed)


def _gp(search: SearchConfig, seed: int) -> BaseSampler:
    return optuna.samplers.GPSampler(n_startup_trials=search.startup_trials, seed=seed)


def _random(search: SearchConfig, seed: int) -> BaseSampler:
    return optuna.samplers.RandomSampler(seed=seed)


SAMPLERS: dict[str, Callable[[SearchConfig, int], BaseSampler]] = {
    "tpe": _tpe,
    "nsga2": _nsga2,
    "gp": _gp,
    "random": _random,
    "grid": _random,  # not used: the study takes the combinations of a grid in order
}
"""Functions that create a sampler from the search config and a seed."""
