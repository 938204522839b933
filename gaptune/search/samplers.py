"""Optuna's samplers by the names that a sweep config uses."""

from __future__ import annotations

import warnings

import numpy as np
import optuna
from optuna.samplers import BaseSampler

from gaptune.config import SearchConfig


def make_sampler(search: SearchConfig, candidate: int) -> BaseSampler:
    """The Optuna sampler that a sweep names.

    Args:
        search: Its name, seed and start.
        candidate: The number of the candidate that it is to draw, which goes into its seed.
    """
    seed = int(np.random.SeedSequence([search.seed, candidate]).generate_state(1)[0])
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
                return optuna.samplers.NSGAIISampler(population_size=population(search), seed=seed)
            case "gp":
                return optuna.samplers.GPSampler(n_startup_trials=search.startup_trials, seed=seed)
            case "random" | "grid":
                return optuna.samplers.RandomSampler(seed=seed)


def population(search: SearchConfig) -> int:
    """How many candidates a generation of ``nsga2`` has."""
    return max(2, search.startup_trials)
