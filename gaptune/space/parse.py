"""Reads search spaces from YAML files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from gaptune.config import (
    HEADS,
    MODEL_PARAMETERS,
    NOT_PARAMETERS,
    ModelConfig,
    TrialConfig,
    flatten,
    parameter_fields,
    with_params,
)
from gaptune.config.document import Document, Key, explain, read_yaml, validate
from gaptune.errors import UserError, brief, did_you_mean
from gaptune.space.methods import METHODS, expand_method
from gaptune.space.model import Choice, Condition, Distribution, Integer, Parameter, Real, Space

_MOST_CHOICES = 1_000
_MOST_POINTS = 10_000


def parse_space(data: Mapping[str, Any]) -> Space:
    """The inverse of ``Space.to_dict``.

    Raises:
        UserError: The data do not describe a space, or contain an unknown parameter.
    """
    return _parse(Document(Path("search space"), dict(data), {}))


def load_space(path: Path | str) -> Space:
    """Reads a search space.

    Raises:
        UserError: The file is missing or invalid. The message names the file and the line.
    """
    return replace(_parse(read_yaml(path)), path=Path(path))


class SpaceFile(BaseModel, extra="forbid"):
    """A search space's YAML file.

    Attributes:
        name: Name of the space; by default the name of the file.
        params: Entry of each parameter by its dotted path; a plain value fixes the parameter.
        points_to_evaluate: Params of the first candidates, in order.
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
        uniform: Bounds of a real number on a linear scale.
        log_uniform: Bounds of a real number on a logarithmic scale.
        integer: Smallest and largest value of an integer.
        step: Step of ``integer``.
        log: Whether ``integer`` is uniform on a logarithmic scale.
        when: Condition under which the parameter is active: allowed values of other parameters, such as
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
            raise UserError("every parameter has a fixed value: give at least one parameter a range or a choice")
    base = base_config(space)
    if space.grid:
        if file.points_to_evaluate:
            raise document.error(
                "a grid already tries every combination: remove points_to_evaluate", ("points_to_evaluate",)
            )
        with _placed(document, "grid"):
            for combination in space.combinations():
                with_params(base, expand_method(combination))
    if len(file.points_to_evaluate) > _MOST_POINTS:
        raise document.error(
            f"too many points: {len(file.points_to_evaluate):,} (at most {_MOST_POINTS:,})", ("points_to_evaluate",)
        )
    defaults = {"method": None} | flatten(base)
    defaults |= {
        parameter.name: parameter.distribution.to_dict()["choice"][0]
        for parameter in space.parameters
        if parameter.fixed
    }
    return replace(
        space,
        points_to_evaluate=tuple(
            _fit(space, document, at, base, defaults) for at in range(len(file.points_to_evaluate))
        ),
    )


def base_config(space: Space) -> TrialConfig:
    """The configuration that params are checked with: parameters of heads need the model that has them."""
    heads = any(parameter.name in MODEL_PARAMETERS for parameter in space.parameters)
    return TrialConfig(model=ModelConfig(name=HEADS)) if heads else TrialConfig()


@contextmanager
def _placed(document: Document, *loc: Key) -> Iterator[None]:
    """Adds the file and the line of an entry to errors that have none."""
    try:
        yield
    except UserError as error:
        raise error if error.file else document.error(error.message, loc) from None


@cache
def _schema(name: str) -> TypeAdapter[Any]:
    """The validator for values of a parameter. Raises ``UserError`` if the parameter is unknown."""
    known: dict[str, Any] = {parameter: Annotated[at.annotation, at] for parameter, at in parameter_fields().items()}
    known["method"] = Literal[tuple(METHODS)]
    if name not in known and name.split(".")[0] in NOT_PARAMETERS:
        raise UserError(f"{name} is not a searchable parameter: set it in the sweep config (sweeps/*.yaml)")
    if name not in known:
        raise UserError(f"unknown parameter {name!r}{did_you_mean(name, known)}")
    return TypeAdapter(known[name], config=ConfigDict(strict=True, allow_inf_nan=False))


def _value(name: str, value: Any) -> Any:
    """Converts a value to the type of its parameter. Raises ``UserError`` if the value is not allowed."""
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
            raise UserError(f"{name} needs exactly one of choice, uniform, log_uniform, and integer; found {found}")
    (kind,) = kinds
    with _placed(document, "params", name, kind):
        values = [_value(name, value) for value in given[kind]]
        if kind != "integer" and entry.model_fields_set & {"step", "log"}:
            raise UserError(f"{name}: step and log are allowed only with integer, not with {kind}")
        if kind == "choice":
            if len(values) > _MOST_CHOICES:
                raise UserError(f"{name}: too many choices: {len(values):,} (at most {_MOST_CHOICES:,})")
            if len(set(values)) < len(values):
                raise UserError(f"{name}: duplicate value in choice {brief(given[kind])}")
            return Choice(tuple(values))
        low, high = values
        needed = int if kind == "integer" else float  # the schema has converted a YAML 1 to the type of the parameter
        if type(low) is not needed or type(high) is not needed:
            fitting = {int: "integer", float: "uniform or log_uniform"}.get(type(low), "choice")
            raise UserError(f"{name}: {kind} {brief(given[kind])} does not fit this parameter: use {fitting}")
        log = entry.log or kind == "log_uniform"
        if low >= high:
            raise UserError(f"{name}: low ({low:g}) must be less than high ({high:g})")
        if log and (low <= 0 or entry.step > 1):
            raise UserError(
                f"{name}: a logarithmic scale needs low above 0 and step 1, got low {low:g} and step {entry.step}"
            )
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
                raise UserError(
                    f"{name} depends on {other!r}, which is not a parameter of this space{did_you_mean(other, space)}"
                )
            if isinstance(space[other], Real):
                raise UserError(
                    f"{name} depends on {other}, which is continuous: a condition needs a choice or integer parameter"
                )
            values = {_value(other, value) for value in (given if isinstance(given, list) else [given])}
            if never := [value for value in values if value not in space[other]]:
                raise UserError(
                    f"{name} depends on {other} = {never[0]!r}, which is not in {brief(space[other].to_dict())}"
                )
            if not values:
                raise UserError(f"{name}: the condition on {other} has no values")
            condition[other] = tuple(sorted(values, key=str))
    return condition


def _in_order(params: Sequence[Parameter]) -> tuple[Parameter, ...]:
    """Sorts parameters: each comes after those that its condition names; otherwise the order is kept."""
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
    """Finds parameters whose conditions form a circle. The first and the last are the same."""
    needs = {parameter.name: parameter.when for parameter in waiting}
    path = [waiting[0].name]
    while path.count(path[-1]) < 2:
        path.append(next(name for name in needs[path[-1]] if name in needs))
    return path[path.index(path[-1]) :]


def _fit(
    space: Space, document: Document, index: int, base: TrialConfig, defaults: Mapping[str, Any]
) -> dict[str, Any]:
    """Completes a point with a value for every active parameter, as ``gaptune.space.model`` describes."""
    given: dict[str, Any] = {}
    for name, value in document.data["points_to_evaluate"][index].items():
        with _placed(document, "points_to_evaluate", index, name):
            given[name] = _value(name, value)
    chosen = expand_method(given)
    start = {**defaults, **chosen, **given}
    point: dict[str, Any] = {}
    for parameter in space.parameters:
        if parameter.active(point):
            point[parameter.name] = value = start[parameter.name]
            if value not in parameter.distribution:
                what = f"{'' if parameter.name in chosen | given else 'its default '}{value!r}"
                message = f"{parameter.name}: {what} is not in {brief(parameter.distribution.to_dict())}"
                raise document.error(message, ("points_to_evaluate", index, parameter.name))
    with _placed(document, "points_to_evaluate", index):
        trial = flatten(with_params(base, expand_method(point)))
    for name, value in chosen.items():
        if trial[name] != value:
            message = f"{name} = {value!r} has no effect: with this point, the space sets it to {trial[name]!r}"
            raise document.error(message, ("points_to_evaluate", index, name))
    return point
