"""A search space read from its YAML file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from gaptune.config import NOT_PARAMETERS, TrialConfig, flatten, parameter_fields, with_params
from gaptune.config.document import Document, Key, explain, read_yaml, validate
from gaptune.errors import UserError, brief, did_you_mean
from gaptune.space.methods import METHODS, expand_method
from gaptune.space.model import Choice, Condition, Distribution, Integer, Parameter, Real, Space

_MOST_CHOICES = 1_000
_MOST_POINTS = 10_000


def parse_space(data: Mapping[str, Any]) -> Space:
    """The inverse of ``Space.to_dict``.

    Raises:
        UserError: It is not the form of a space, or names parameters that this version does not have.
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
        name: Name of the space; by default the name of the file.
        params: An entry for each parameter by its dotted path; a plain value fixes it.
        points_to_evaluate: Params that are tried first, in order.
        grid: Whether to try every combination of choices, integers, and fixed values.
    """

    name: str = ""
    params: dict[str, Any]
    points_to_evaluate: list[dict[str, Any]] = []
    grid: bool = False


_Bounds = Annotated[list[Any], Field(min_length=2, max_length=2)]


class ParameterEntry(BaseModel, extra="forbid"):
    """Range of a parameter: one of the first four keys.

    Attributes:
        choice: List of values.
        uniform: Bounds of a real number.
        log_uniform: Bounds of a real number that is uniform in its logarithm.
        integer: Smallest and largest value of a whole number.
        step: Step of ``integer``.
        log: Whether ``integer`` is uniform in its logarithm.
        when: Values of other parameters that are necessary for this parameter to exist, such as
            ``{swap.kind: [hard, soft]}``.
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
    values = {name: _distribution(document, name) for name in file.params}
    params = [Parameter(name, values[name], _condition(document, name, values)) for name in file.params]
    with _placed(document, "params"):
        space = Space(file.name or document.path.stem, _in_order(params), grid=file.grid)
        if not space.varied():
            raise UserError("no parameter of this space varies")
    if space.grid:
        if file.points_to_evaluate:
            raise document.error(
                "a grid tries every combination; it takes no points_to_evaluate", ("points_to_evaluate",)
            )
        with _placed(document, "grid"):
            for combination in space.combinations():
                with_params(TrialConfig(), expand_method(combination))
    if len(file.points_to_evaluate) > _MOST_POINTS:
        raise document.error(
            f"{len(file.points_to_evaluate):,} points; at most {_MOST_POINTS:,} are taken", ("points_to_evaluate",)
        )
    defaults = {"method": None} | flatten(TrialConfig())
    defaults |= {
        parameter.name: parameter.distribution.to_dict()["choice"][0]
        for parameter in space.parameters
        if parameter.fixed
    }
    return replace(
        space,
        points_to_evaluate=tuple(_fit(space, document, at, defaults) for at in range(len(file.points_to_evaluate))),
    )


@contextmanager
def _placed(document: Document, *loc: Key) -> Iterator[None]:
    """Gives a complaint that has no place yet the file and line of what it is about."""
    try:
        yield
    except UserError as error:
        raise error if error.file else document.error(error.message, loc) from None


@cache
def _schema(name: str) -> TypeAdapter[Any]:
    """What a parameter's values must be like; ``UserError`` when there is no such parameter."""
    if name.split(".")[0] in NOT_PARAMETERS:
        raise UserError(f"{name} is not a searchable parameter: set it in the sweep config (sweeps/*.yaml)")
    known: dict[str, Any] = {parameter: Annotated[at.annotation, at] for parameter, at in parameter_fields().items()}
    known["method"] = Literal[tuple(METHODS)]
    if name not in known:
        raise UserError(f"unknown parameter {name!r}{did_you_mean(name, known)}")
    return TypeAdapter(known[name], config=ConfigDict(strict=True, allow_inf_nan=False))


def _value(name: str, value: Any) -> Any:
    """A value in its parameter's type; ``UserError`` if the parameter cannot have it."""
    try:
        return _schema(name).validate_python(value)
    except ValidationError as error:
        raise UserError(f"{name}: {explain(error, TrialConfig)[0]}") from None


def _distribution(document: Document, name: str) -> Distribution:
    given = document.data["params"][name]
    with _placed(document, "params", name):
        _schema(name)
        if not isinstance(given, dict):
            return Choice((_value(name, given),))
        entry = validate(document, ParameterEntry, ("params", name))
        kinds = [kind for kind in ("choice", "uniform", "log_uniform", "integer") if kind in given]
        if len(kinds) != 1:
            found = " and ".join(kinds) or "none"
            raise UserError(f"{name} needs one of choice, uniform, log_uniform and integer, not {found}")
    (kind,) = kinds
    with _placed(document, "params", name, kind):
        values = [_value(name, value) for value in given[kind]]
        if kind != "integer" and entry.model_fields_set & {"step", "log"}:
            raise UserError(f"{name}: step and log go with integer, not with {kind}")
        if kind == "choice":
            if len(values) > _MOST_CHOICES:
                raise UserError(f"{name}: a choice of {len(values):,} values; at most {_MOST_CHOICES:,} are taken")
            if len(set(values)) < len(values):
                raise UserError(f"{name}: duplicate value in choice {brief(given[kind])}")
            return Choice(tuple(values))
        low, high = values
        needed = int if kind == "integer" else float  # the parameter's schema has made a YAML 1 what it needs
        if type(low) is not needed or type(high) is not needed:
            fitting = {int: "integer", float: "uniform or log_uniform"}.get(type(low), "choice")
            raise UserError(f"{name}: {kind} {brief(given[kind])} does not suit this parameter (use {fitting})")
        log = entry.log or kind == "log_uniform"
        if low >= high:
            raise UserError(f"{name}: low {low:g} is not below high {high:g}")
        if log and (low <= 0 or entry.step > 1):
            raise UserError(f"{name}: a logarithm needs low above 0 and step 1, got {low:g} and {entry.step}")
        if isinstance(low, float):
            return Real(low, high, log)
        if (high - low) % entry.step:
            raise UserError(f"{name}: high ({high}) must be low ({low}) plus a multiple of step ({entry.step})")
        return Integer(low, high, entry.step, log)


def _condition(document: Document, name: str, space: Mapping[str, Distribution]) -> Condition:
    entry = document.data["params"][name]
    condition: dict[str, tuple[Any, ...]] = {}
    for other, given in entry.get("when", {}).items() if isinstance(entry, dict) else ():
        with _placed(document, "params", name, "when", other):
            if other == name:
                raise UserError(f"{name} depends on itself")
            if other not in space:
                raise UserError(f"{name} depends on {other!r}, no parameter of this space{did_you_mean(other, space)}")
            if isinstance(space[other], Real):
                raise UserError(f"{name} depends on {other}, which is continuous")
            values = {_value(other, value) for value in (given if isinstance(given, list) else [given])}
            if never := [value for value in values if value not in space[other]]:
                raise UserError(f"{name} depends on {other} = {never[0]!r}, not in {brief(space[other].to_dict())}")
            if not values:
                raise UserError(f"{name} depends on no value of {other}")
            condition[other] = tuple(sorted(values, key=str))
    return condition


def _in_order(params: Sequence[Parameter]) -> tuple[Parameter, ...]:
    """The parameters with every one after those that its condition names, else in the order given."""
    ordered: dict[str, Parameter] = {}
    waiting = list(params)
    while waiting:
        ready = next((parameter for parameter in waiting if ordered.keys() >= parameter.when.keys()), None)
        if ready is None:
            raise UserError(f"circular conditions: {' -> '.join(_circle(waiting))}")
        ordered[ready.name] = ready
        waiting.remove(ready)
    return tuple(ordered.values())


def _circle(waiting: Sequence[Parameter]) -> list[str]:
    """Some of the parameters whose conditions lead back to the first of them."""
    needs = {parameter.name: parameter.when for parameter in waiting}
    path = [waiting[0].name]
    while path.count(path[-1]) < 2:
        path.append(next(name for name in needs[path[-1]] if name in needs))
    return path[path.index(path[-1]) :]


def _fit(space: Space, document: Document, index: int, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """A point with a value for every parameter that is active in it, as the module's docstring tells."""
    given: dict[str, Any] = {}
    for name, value in document.data["points_to_evaluate"][index].items():
        with _placed(document, "points_to_evaluate", index, name):
            given[name] = _value(name, value)
    said = expand_method(given)
    start = {**defaults, **said, **given}
    point: dict[str, Any] = {}
    for parameter in space.parameters:
        if parameter.active(point):
            point[parameter.name] = value = start[parameter.name]
            if value not in parameter.distribution:
                what = f"{'' if parameter.name in said | given else 'its default '}{value!r}"
                message = f"{parameter.name}: {what} is not in {brief(parameter.distribution.to_dict())}"
                raise document.error(message, ("points_to_evaluate", index, parameter.name))
    with _placed(document, "points_to_evaluate", index):
        trial = flatten(with_params(TrialConfig(), expand_method(point)))
    for name, value in said.items():
        if trial[name] != value:
            message = f"{name} = {value!r}, but the space leaves it at {trial[name]!r} here"
            raise document.error(message, ("points_to_evaluate", index, name))
    return point
