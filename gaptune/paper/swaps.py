"""As many swapped steps as in the paper, in trainings of any length."""

from __future__ import annotations

from dataclasses import replace

from gaptune.config import TrialConfig
from gaptune.data.open import open_training
from gaptune.space.model import Choice, Parameter, Space

PAPER_SWAPS = 12
"""Swapped steps of the paper's smallest probability: 0.001 of 11,500 steps."""
_MOST = 0.5  # a training of a few steps still differs from one that swaps in each


def training_steps(config: TrialConfig) -> int:
    """Number of steps of a training.

    Raises:
        UserError: Its data cannot be opened.
    """
    images = len(open_training(config.data).split("train"))
    return config.training.epochs * (images // config.training.batch_size)


def with_enough_swaps(space: Space, steps: int) -> Space:
    """The space with swap probabilities that swap in at least ``PAPER_SWAPS`` steps on average.

    What swaps do depends on the number of swapped steps, and the paper's 0.001 hardly ever swaps in a short training.

    Args:
        space: Search space of the paper's methods.
        steps: Steps of each training.
    """
    least = float(f"{PAPER_SWAPS / max(steps, 1):.1g}")

    def raised(parameter: Parameter) -> Parameter:
        if parameter.name != "swap.probability" or not isinstance(parameter.distribution, Choice):
            return parameter
        values = dict.fromkeys(max(value, min(least, _MOST)) for value in parameter.distribution.values)
        return replace(parameter, distribution=Choice(tuple(values)))

    return replace(space, parameters=tuple(map(raised, space.parameters)))
