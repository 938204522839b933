"""Search spaces: parameters, their ranges and conditions, and the points to evaluate first.

A space is a YAML file::

    params:
      temperature.schedule: {choice: [constant, linear, step]}
      temperature.tau_start: {log_uniform: [0.01, 0.2]}
      temperature.tau_end: {log_uniform: [0.01, 0.2], when: {temperature.schedule: [linear, step]}}
      training.batch_size: {integer: [64, 256], step: 64}     # or log: true
      optimizer.lr: 1e-3                                      # fixed
    points_to_evaluate: [{method: FLT}, {temperature.schedule: constant, temperature.tau_start: 0.07}]

A parameter is *active* if its condition holds. A trial uses the value of the sweep config for an inactive parameter.
``uniform`` and ``log_uniform`` are for real numbers, ``integer`` is for integers, and ``choice`` and fixed values are
for all parameters. ``method`` is also a parameter: it sets all parameters of a named method. With ``grid: true``, the
sweep tries every combination.

A point has a value for every active parameter. The value comes from the first of these that has one: the point itself,
its method, the fixed values of the space, the defaults of ``TrialConfig``. A point must lie in the space. Values for
inactive parameters must equal the defaults.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from gaptune.errors import UserError

if TYPE_CHECKING:
    import numpy as np

_LARGEST_GRID = 10_000


class Suggester(Protocol):
    """Object that chooses the values: an ``optuna.Trial``, or any object with these three methods."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """A real number in [low, high]."""

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        """One of low, low + step, …, high."""

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """One of the choices."""


class RandomDraw:
    """A suggester that draws random values.

    Args:
        rng: Random number generator.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """A real number in [low, high]."""
        return math.exp(self._rng.uniform(math.log(low), math.log(high))) if log else self._rng.uniform(low, high)

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        """One of low, low + step, …, high."""
        if log:
            return min(high, int(math.exp(self._rng.uniform(math.log(low), math.log(high + 1)))))
        return int(low + step * self._rng.integers(0, (high - low) // step + 1))

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """One of the choices."""
        return choices[int(self._rng.integers(0, len(choices)))]


@dataclass(frozen=True)
class Choice:
    """A choice among some values. A single value is fixed, and the suggester is not asked for it."""

    values: tuple[Any, ...]

    def __contains__(self, value: object) -> bool:
        return value in self.values

    def suggest(self, trial: Suggester, name: str) -> Any:
        """Asks for a value."""
        return trial.suggest_categorical(name, self.values) if len(self.values) > 1 else self.values[0]

    def to_dict(self) -> dict[str, Any]:
        """The form of the YAML file."""
        return {"choice": list(self.values)}


@dataclass(frozen=True)
class Real:
    """A real number in [low, high], uniform on a linear or logarithmic scale."""

    low: float
    high: float
    log: bool

    def __contains__(self, value: object) -> bool:
        return isinstance(value, float) and self.low <= value <= self.high

    def suggest(self, trial: Suggester, name: str) -> float:
        """Asks for a value."""
        return trial.suggest_float(name, self.low, self.high, log=self.log)

    def to_dict(self) -> dict[str, Any]:
        """The form of the YAML file."""
        return {"log_uniform" if self.log else "uniform": [self.low, self.high]}


@dataclass(frozen=True)
class Integer:
    """One of low, low + step, …, high, uniform on a linear scale or (with step 1) on a logarithmic scale."""

    low: int
    high: int
    step: int
    log: bool

    @property
    def values(self) -> Sequence[int]:
        """All possible values."""
        return range(self.low, self.high + 1, self.step)

    def __contains__(self, value: object) -> bool:
        return value in self.values

    def suggest(self, trial: Suggester, name: str) -> int:
        """Asks for a value."""
        return trial.suggest_int(name, self.low, self.high, step=self.step, log=self.log)

    def to_dict(self) -> dict[str, Any]:
        """The form of the YAML file."""
        return {"integer": [self.low, self.high], "step": self.step, "log": self.log}


Distribution = Choice | Real | Integer
Condition = Mapping[str, tuple[Any, ...]]


@dataclass(frozen=True)
class Parameter:
    """A parameter of a space.

    Attributes:
        name: Dotted path in ``TrialConfig``, or ``method``.
        distribution: Possible values.
        when: Allowed values of other parameters. The parameter is active if all these conditions hold.
    """

    name: str
    distribution: Distribution
    when: Condition = field(default_factory=dict)

    @property
    def fixed(self) -> bool:
        """Whether the parameter has only one possible value."""
        return isinstance(self.distribution, Choice) and len(self.distribution.values) == 1

    def active(self, params: Mapping[str, Any]) -> bool:
        """Whether the conditions hold. A parameter that depends on an inactive parameter is inactive too."""
        return all(name in params and params[name] in values for name, values in self.when.items())

    def to_dict(self) -> dict[str, Any]:
        """The form of the YAML file."""
        return {**self.distribution.to_dict(), "when": {name: list(of) for name, of in self.when.items()}}


@dataclass(frozen=True)
class Space:
    """A search space.

    Attributes:
        name: Display name; by default the name of the file without its extension.
        parameters: Parameters in the order of the file, but each after the parameters that its condition names.
        points_to_evaluate: Params of the first candidates, in order, in the form that ``suggest`` returns.
        grid: Whether the sweep tries every combination.
        path: File of the space, if any.
    """

    name: str
    parameters: tuple[Parameter, ...]
    points_to_evaluate: tuple[dict[str, Any], ...] = ()
    grid: bool = False
    path: Path | None = field(default=None, compare=False)

    def suggest(self, trial: Suggester) -> dict[str, Any]:
        """Returns a value for every active parameter. The suggester is not asked for fixed values."""
        params: dict[str, Any] = {}
        for parameter in self.parameters:
            if parameter.active(params):
                params[parameter.name] = parameter.distribution.suggest(trial, parameter.name)
        return params

    def __contains__(self, params: object) -> bool:
        """Whether every active parameter has a value that its distribution allows."""
        return isinstance(params, Mapping) and all(
            parameter.name in params and params[parameter.name] in parameter.distribution
            for parameter in self.parameters
            if parameter.active(params)
        )

    def combinations(self) -> list[dict[str, Any]]:
        """Lists all possible params without duplicates. The first parameter changes slowest.

        Raises:
            UserError: A parameter is continuous, or there are more than 10,000 combinations.
        """
        combinations: list[dict[str, Any]] = [{}]
        for parameter in self.parameters:
            if isinstance(parameter.distribution, Real):
                raise UserError(
                    f"{parameter.name} is continuous: a grid needs choice or integer parameters", file=self.path
                )
            values = parameter.distribution.values[: _LARGEST_GRID + 1]
            longer: list[dict[str, Any]] = []
            for params in combinations:
                longer += (
                    [{**params, parameter.name: value} for value in values] if parameter.active(params) else [params]
                )
                if len(longer) > _LARGEST_GRID:
                    raise UserError(f"the grid has more than {_LARGEST_GRID:,} combinations", file=self.path)
            combinations = longer
        return combinations

    def size(self) -> int | None:
        """Number of combinations; None if a parameter is continuous or there are more than 10,000."""
        everything = self.everything()
        return None if everything is None else len(everything)

    def everything(self) -> list[dict[str, Any]] | None:
        """Returns ``combinations``, or None if they cannot be listed."""
        try:
            return self.combinations()
        except UserError:
            return None

    def varied(self) -> tuple[str, ...]:
        """Names of the parameters with more than one possible value."""
        return tuple(parameter.name for parameter in self.parameters if not parameter.fixed)

    def varied_params(self, point: Mapping[str, Any]) -> dict[str, Any]:
        """The params that a sampler chooses: those of a point without the fixed values."""
        return {name: point[name] for name in self.varied() if name in point}

    def to_dict(self) -> dict[str, Any]:
        """The space in the form of its YAML file, as plain JSON values."""
        return {
            "name": self.name,
            "params": {parameter.name: parameter.to_dict() for parameter in self.parameters},
            "points_to_evaluate": [dict(point) for point in self.points_to_evaluate],
            "grid": self.grid,
        }
