"""False positive rates of the tests of ``gaptune reproduce``, at a level of 5%.

For each test, many sweeps are simulated in which its claim is false, but as nearly true as possible. The metrics are
continuous, or recalls over few images, which are often equal.

    python benchmarks/claim_errors.py [--sweeps 20000] [--seed 0]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from gaptune.paper.claim_tests import above, falls, follows_more, holm, peak

LEVEL = 0.05
SEEDS = (3, 4, 5, 10)
Values = npt.NDArray[np.float64]
Noise = Callable[[np.random.Generator, Any], Values]
_SETS = 21  # of parameters, as in search_spaces/paper.yaml


def normal(rng: np.random.Generator, mean: Any) -> Values:
    """Values with noise of 0.01."""
    return np.asarray(mean + 0.01 * rng.normal(size=np.shape(mean)))


def coarse(images: int) -> Noise:
    """Recalls over a few images: the same noise, in steps of one image."""

    def draw(rng: np.random.Generator, mean: Any) -> Values:
        return np.round(normal(rng, mean) * images) / images

    return draw


NOISES: dict[str, Noise] = {"continuous": normal, "of 200 images": coarse(200), "of 50 images": coarse(50)}


def equal(rng: np.random.Generator, noise: Noise, seeds: int) -> bool:
    """A method that changes nothing."""
    common = rng.normal(scale=0.05, size=seeds)  # seeds that are harder are so for both
    return above(noise(rng, 0.5 + common), noise(rng, 0.5 + common)) < LEVEL


def seldom_other(rng: np.random.Generator, noise: Noise, seeds: int) -> bool:
    """A method that changes nothing in most seeds, and the metric by chance in the others."""
    base = noise(rng, np.full(seeds, 0.5))
    acts = rng.random(seeds) < 0.5
    return above(np.where(acts, noise(rng, np.full(seeds, 0.5)), base), base) < LEVEL


def flat(rng: np.random.Generator, noise: Noise, seeds: int) -> bool:
    """A fall where there is none."""
    return falls(noise(rng, np.full((7, seeds), 0.5))) < LEVEL


def _peak(rng: np.random.Generator, noise: Noise, means: list[float], seeds: int) -> bool:
    return peak(noise(rng, np.repeat(np.array(means)[:, None], seeds, axis=1)))[1] < LEVEL


def rise_to_a_plateau(rng: np.random.Generator, noise: Noise, seeds: int) -> bool:
    """An inverted U where values rise and stay."""
    return _peak(rng, noise, [0.2, 0.4, 0.5, 0.5, 0.5, 0.5, 0.5], seeds)


def fall_from_a_plateau(rng: np.random.Generator, noise: Noise, seeds: int) -> bool:
    """An inverted U where values stay and fall."""
    return _peak(rng, noise, [0.5, 0.5, 0.5, 0.5, 0.5, 0.4, 0.2], seeds)


def no_peak(rng: np.random.Generator, noise: Noise, seeds: int) -> bool:
    """An inverted U where nothing changes."""
    return _peak(rng, noise, [0.5] * 7, seeds)


def unrelated(rng: np.random.Generator, noise: Noise, seeds: int) -> bool:
    """A stronger correlation with one metric than with another, with neither in fact; the two are correlated or not."""
    del seeds  # it is over the sets of parameters
    both = rng.normal(size=_SETS) * rng.choice([0.0, 1.0])
    one, other = both + rng.normal(size=_SETS), both + rng.normal(size=_SETS)
    return follows_more(noise(rng, 0.05 * rng.normal(size=_SETS)), one, other)[2] < LEVEL


def both_alike(rng: np.random.Generator, noise: Noise, seeds: int) -> bool:
    """A stronger correlation with one metric than with another, equal in fact."""
    del seeds
    one, other = rng.normal(size=(2, _SETS))
    return follows_more(noise(rng, 0.02 * (one + other + rng.normal(size=_SETS))), one, other)[2] < LEVEL


def family(rng: np.random.Generator, noise: Noise, seeds: int) -> bool:
    """Any of 18 methods against one baseline, none of which changes anything, after Holm's correction."""
    values = noise(rng, np.full((19, seeds), 0.5))
    return min(holm([above(one, values[0]) for one in values[1:]])) < LEVEL


NULLS = (
    equal,
    seldom_other,
    flat,
    rise_to_a_plateau,
    fall_from_a_plateau,
    no_peak,
    unrelated,
    both_alike,
    family,
)


def errors(null: Callable[..., bool], noise: str, seeds: int, draws: int, seed: int = 0) -> float:
    """Fraction of sweeps in which a false claim holds."""
    rng = np.random.default_rng([seed, seeds])
    return sum(null(rng, NOISES[noise], seeds) for _ in range(draws)) / draws


def main() -> None:
    """Prints a row for each test: its errors for each number of seeds, with the noise for which they are most."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sweeps", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    print("| a claim that is false | " + " | ".join(f"{seeds} seeds" for seeds in SEEDS) + " |")
    print("|---|" + "---|" * len(SEEDS))
    for null in NULLS:
        draws = asked.sweeps // (10 if null in (family, flat) else 1)  # which are slow
        worst = [max(errors(null, noise, seeds, draws, asked.seed) for noise in NOISES) for seeds in SEEDS]
        cells = [f"{100 * fraction:.1f} %" for fraction in worst]
        print(f"| {(null.__doc__ or '').rstrip('.')} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
