"""Search spaces: which knobs vary, over what, under which condition, and which points are tried first.

A space is a YAML file::

    knobs:
      temperature.schedule: {choice: [constant, linear, step]}
      temperature.tau_start: {log_uniform: [0.01, 0.2]}
      temperature.tau_end: {log_uniform: [0.01, 0.2], when: {temperature.schedule: [linear, step]}}
      training.batch_size: {integer: [64, 256], step: 64}     # or log: true
      optimizer.lr: 1e-3                                      # fixed
    points: [{method: FLT}, {temperature.schedule: constant, temperature.tau_start: 0.07}]

A knob whose condition fails is left out of a trial, which then has the sweep's value. ``uniform`` and
``log_uniform`` are for knobs of real numbers, ``integer`` is for whole numbers, the rest for all knobs.
``method`` is a knob too, for the knobs of a named method. ``grid: true`` asks for every combination.

A point gives a value to every knob that is active in it: its own, else its method's, else the space's fixed
one, else the default in ``TrialConfig``; it must lie in the space. What it says of others must be so anyhow.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from gaptune.config import NOT_KNOBS, TrialConfig, flatten, knob_fields, with_knobs
from gaptune.config.document import Document, Key, explain, read_yaml, validate
from gaptune.errors import UserError, brief, did_you_mean
from gaptune.methods import METHODS, expand_method

if TYPE_CHECKING:
    import numpy as np

_LARGEST_GRID = 10_000
_MOST_CHOICES = 1_000
_MOST_POINTS = 10_000


class Suggester(Protocol):
    """Who picks the values: an ``optuna.Trial``, or anything else with these three methods."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """A real number in [low, high]."""

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        """One of low, low + step, …, high."""

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """One of the choices."""


class RandomDraw:
    """A suggester that answers at random.

    Args:
        rng: Where the numbers come from.
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
    """One of some values; a single one is a fixed value, about which nobody is asked."""

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
    """A real number in [low, high], uniform in itself or in its logarithm."""

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
    """One of low, low + step, …, high, uniform in itself or (with step 1) in its logarithm."""

    low: int
    high: int
    step: int
    log: bool

    @property
    def values(self) -> Sequence[int]:
        """All of them."""
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
class Knob:
    """A knob of a space.

    Attributes:
        name: Its dotted path in ``TrialConfig``, or ``method``.
        distribution: The values that it can have.
        when: The values that other knobs must have for this one to be active; all of them.
    """

    name: str
    distribution: Distribution
    when: Condition = field(default_factory=dict)

    @property
    def fixed(self) -> bool:
        """Whether it has the same value in every trial in which it is active."""
        return isinstance(self.distribution, Choice) and len(self.distribution.values) == 1

    def active(self, knobs: Mapping[str, Any]) -> bool:
        """Whether its condition holds; never when it depends on a knob that is itself inactive."""
        return all(name in knobs and knobs[name] in values for name, values in self.when.items())

    def to_dict(self) -> dict[str, Any]:
        """The form of the YAML file."""
        return {**self.distribution.to_dict(), "when": {name: list(of) for name, of in self.when.items()}}


@dataclass(frozen=True)
class Space:
    """A search space.

    Attributes:
        name: For people; the file's stem by default.
        knobs: In the order of the file, but each after those that its condition names.
        points: Tried first, in order. Each is what ``suggest`` returns for it.
        grid: Whether every combination is to be tried.
        path: The file that it was read from, if any.
    """

    name: str
    knobs: tuple[Knob, ...]
    points: tuple[dict[str, Any], ...] = ()
    grid: bool = False
    path: Path | None = field(default=None, compare=False)

    def suggest(self, trial: Suggester) -> dict[str, Any]:
        """A value for every active knob, the fixed ones too, about which the suggester is not asked."""
        knobs: dict[str, Any] = {}
        for knob in self.knobs:
            if knob.active(knobs):
                knobs[knob.name] = knob.distribution.suggest(trial, knob.name)
        return knobs

    def __contains__(self, knobs: object) -> bool:
        """Whether a set of knobs gives every knob that is active in it a value of its distribution."""
        return isinstance(knobs, Mapping) and all(
            knob.name in knobs and knobs[knob.name] in knob.distribution for knob in self.knobs if knob.active(knobs)
        )

    def combinations(self) -> list[dict[str, Any]]:
        """Every set of knobs that can be suggested, once; the first knob changes slowest.

        Raises:
            UserError: A knob is continuous, or there are more than 10,000 combinations.
        """
        combinations: list[dict[str, Any]] = [{}]
        for knob in self.knobs:
            if isinstance(knob.distribution, Real):
                raise UserError(f"{knob.name} is continuous; a grid needs choices or integers", file=self.path)
            values = knob.distribution.values[: _LARGEST_GRID + 1]
            longer: list[dict[str, Any]] = []
            for knobs in combinations:
                longer += [{**knobs, knob.name: value} for value in values] if knob.active(knobs) else [knobs]
                if len(longer) > _LARGEST_GRID:
                    raise UserError(f"a grid of more than {_LARGEST_GRID:,} combinations", file=self.path)
            combinations = longer
        return combinations

    def size(self) -> int | None:
        """How many sets of knobs can be suggested; None where a knob is continuous or there are more than 10,000."""
        everything = self.everything()
        return None if everything is None else len(everything)

    def everything(self) -> list[dict[str, Any]] | None:
        """The same as ``combinations``; None where they cannot be listed."""
        try:
            return self.combinations()
        except UserError:
            return None

    def varied(self) -> tuple[str, ...]:
        """Names of the knobs that have more than one value."""
        return tuple(knob.name for knob in self.knobs if not knob.fixed)

    def params(self, point: Mapping[str, Any]) -> dict[str, Any]:
        """The part of a set of knobs that a sampler knows of: without fixed values."""
        return {name: point[name] for name in self.varied() if name in point}

    def fingerprint(self) -> str:
        """SHA-256 in hex of what the space says; its name and the order of its knobs do not count."""
        content = {key: value for key, value in self.to_dict().items() if key != "name"}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """The space in the form of its YAML file, as plain JSON values."""
        return {
            "name": self.name,
            "knobs": {knob.name: knob.to_dict() for knob in self.knobs},
            "points": [dict(point) for point in self.points],
            "grid": self.grid,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Space:
        """The inverse of ``to_dict``.

        Raises:
            UserError: It is not the form of a space, or names knobs that this version does not have.
        """
        return _parse(Document(Path("search space"), dict(data), {}))


def load_space(path: Path | str) -> Space:
    """Reads a search space.

    Raises:
        UserError: The file is missing or something in it is wrong; with file and line.
    """
    return replace(_parse(read_yaml(path)), path=Path(path))


class SpaceFile(BaseModel, extra="forbid"):
    """A search space's YAML file.

    Attributes:
        name: Name of the space; that of the file by default.
        knobs: By dotted path, what each knob may be; a plain value fixes it.
        points: Sets of knobs that are tried first, in order.
        grid: Try every combination, of choices, integers and fixed values only.
    """

    name: str = ""
    knobs: dict[str, Any]
    points: list[dict[str, Any]] = []
    grid: bool = False


_Bounds = Annotated[list[Any], Field(min_length=2, max_length=2)]


class KnobEntry(BaseModel, extra="forbid"):
    """What a knob may be: one of the first four keys.

    Attributes:
        choice: One of these values.
        uniform: A real number between these two.
        log_uniform: The same, uniform in its logarithm.
        integer: A whole number from the first to the second.
        step: Steps of ``integer``.
        log: Whether ``integer`` is uniform in its logarithm.
        when: The knob exists only while other knobs have certain values, such as ``{swap.kind: [hard, soft]}``.
    """

    choice: Annotated[list[Any], Field(min_length=1)] = []
    uniform: _Bounds = []
    log_uniform: _Bounds = []
    integer: _Bounds = []
    step: Annotated[int, Field(ge=1)] = 1
    log: bool = False
    when: dict[str, Any] = {}


def _parse(document: Document) -> Space:
    file = validate(document, SpaceFile)
    values = {name: _distribution(document, name) for name in file.knobs}
    knobs = [Knob(name, values[name], _condition(document, name, values)) for name in file.knobs]
    with _placed(document, "knobs"):
        space = Space(file.name or document.path.stem, _in_order(knobs), grid=file.grid)
        if not space.varied():
            raise UserError("no knob of this space varies")
    if space.grid:
        if file.points:
            raise document.error("a grid tries every combination; it takes no points", ("points",))
        with _placed(document, "grid"):
            for combination in space.combinations():
                with_knobs(TrialConfig(), expand_method(combination))
    if len(file.points) > _MOST_POINTS:
        raise document.error(f"{len(file.points):,} points; at most {_MOST_POINTS:,} are taken", ("points",))
    defaults = {"method": None} | flatten(TrialConfig())
    defaults |= {knob.name: knob.distribution.to_dict()["choice"][0] for knob in space.knobs if knob.fixed}
    return replace(space, points=tuple(_fit(space, document, at, defaults) for at in range(len(file.points))))


@contextmanager
def _placed(document: Document, *loc: Key) -> Iterator[None]:
    """Gives a complaint that has no place yet the file and line of what it is about."""
    try:
        yield
    except UserError as fault:
        raise fault if fault.file else document.error(fault.message, loc) from None


@cache
def _schema(name: str) -> TypeAdapter[Any]:
    """What a knob's values must be like; ``UserError`` when there is no such knob."""
    if name.split(".")[0] in NOT_KNOBS:
        raise UserError(f"{name} is no knob: {', '.join(NOT_KNOBS)} belong to the sweep (sweeps/*.yaml)")
    known: dict[str, Any] = {knob: Annotated[at.annotation, at] for knob, at in knob_fields().items()}
    known["method"] = Literal[tuple(METHODS)]
    if name not in known:
        raise UserError(f"unknown knob {name!r}{did_you_mean(name, known)}")
    return TypeAdapter(known[name], config=ConfigDict(strict=True, allow_inf_nan=False))


def _value(name: str, value: Any) -> Any:
    """A value in its knob's type; ``UserError`` if the knob cannot have it."""
    try:
        return _schema(name).validate_python(value)
    except ValidationError as fault:
        raise UserError(f"{name}: {explain(fault, TrialConfig)[0]}") from None


def _distribution(document: Document, name: str) -> Distribution:
    given = document.data["knobs"][name]
    with _placed(document, "knobs", name):
        _schema(name)
        if not isinstance(given, dict):
            return Choice((_value(name, given),))
        entry = validate(document, KnobEntry, ("knobs", name))
        kinds = [kind for kind in ("choice", "uniform", "log_uniform", "integer") if kind in given]
        if len(kinds) != 1:
            found = " and ".join(kinds) or "none"
            raise UserError(f"{name} needs one of choice, uniform, log_uniform and integer, not {found}")
    (kind,) = kinds
    with _placed(document, "knobs", name, kind):
        values = [_value(name, value) for value in given[kind]]
        if kind != "integer" and entry.model_fields_set & {"step", "log"}:
            raise UserError(f"{name}: step and log go with integer, not with {kind}")
        if kind == "choice":
            if len(values) > _MOST_CHOICES:
                raise UserError(f"{name}: a choice of {len(values):,} values; at most {_MOST_CHOICES:,} are taken")
            if len(set(values)) < len(values):
                raise UserError(f"{name}: a value stands twice in choice {brief(given[kind])}")
            return Choice(tuple(values))
        low, high = values
        needed = int if kind == "integer" else float  # the knob's schema has made a YAML 1 what it needs
        if type(low) is not needed or type(high) is not needed:
            fitting = {int: "integer", float: "uniform or log_uniform"}.get(type(low), "choice")
            raise UserError(f"{name}: {kind} {brief(given[kind])} does not suit this knob (use {fitting})")
        log = entry.log or kind == "log_uniform"
        if low >= high:
            raise UserError(f"{name}: low {low:g} is not below high {high:g}")
        if log and (low <= 0 or entry.step > 1):
            raise UserError(f"{name}: a logarithm needs low above 0 and step 1, got {low:g} and {entry.step}")
        if isinstance(low, float):
            return Real(low, high, log)
        if (high - low) % entry.step:
            raise UserError(f"{name}: steps of {entry.step} from {low} do not meet {high}")
        return Integer(low, high, entry.step, log)


def _condition(document: Document, name: str, space: Mapping[str, Distribution]) -> Condition:
    entry = document.data["knobs"][name]
    condition: dict[str, tuple[Any, ...]] = {}
    for other, given in entry.get("when", {}).items() if isinstance(entry, dict) else ():
        with _placed(document, "knobs", name, "when", other):
            if other == name:
                raise UserError(f"{name} depends on itself")
            if other not in space:
                raise UserError(f"{name} depends on {other!r}, no knob of this space{did_you_mean(other, space)}")
            if isinstance(space[other], Real):
                raise UserError(f"{name} depends on {other}, which is continuous")
            values = {_value(other, value) for value in (given if isinstance(given, list) else [given])}
            if never := [value for value in values if value not in space[other]]:
                raise UserError(f"{name} depends on {other} = {never[0]!r}, not in {brief(space[other].to_dict())}")
            if not values:
                raise UserError(f"{name} depends on no value of {other}")
            condition[other] = tuple(sorted(values, key=str))
    return condition


def _in_order(knobs: Sequence[Knob]) -> tuple[Knob, ...]:
    """The knobs with every one after those that its condition names, else in the order given."""
    ordered: dict[str, Knob] = {}
    waiting = list(knobs)
    while waiting:
        ready = next((knob for knob in waiting if ordered.keys() >= knob.when.keys()), None)
        if ready is None:
            raise UserError(f"conditions go round in a circle: {', '.join(knob.name for knob in waiting)}")
        ordered[ready.name] = ready
        waiting.remove(ready)
    return tuple(ordered.values())


def _fit(space: Space, document: Document, index: int, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """A point with a value for every knob that is active in it, as the module's docstring tells."""
    given: dict[str, Any] = {}
    for name, value in document.data["points"][index].items():
        with _placed(document, "points", index, name):
            given[name] = _value(name, value)
    said = expand_method(given)
    start = {**defaults, **said, **given}
    point: dict[str, Any] = {}
    for knob in space.knobs:
        if knob.active(point):
            point[knob.name] = value = start[knob.name]
            if value not in knob.distribution:
                what = f"{'' if knob.name in said | given else 'its default '}{value!r}"
                message = f"{knob.name}: {what} is not in {brief(knob.distribution.to_dict())}"
                raise document.error(message, ("points", index, knob.name))
    with _placed(document, "points", index):
        trial = flatten(with_knobs(TrialConfig(), expand_method(point)))
    for name, value in said.items():
        if trial[name] != value:
            message = f"{name} = {value!r}, but the space leaves it at {trial[name]!r} here"
            raise document.error(message, ("points", index, name))
    return point
