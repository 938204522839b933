"""YAML files with line numbers: what is wrong is said with the place where it stands."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from gaptune.errors import UserError, did_you_mean

Key = str | int
Model = TypeVar("Model", bound=BaseModel)


class _Loader(yaml.SafeLoader):
    """SafeLoader that reads ``1e-3`` as a number, as YAML 1.2 and everybody's eyes do."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d[\d_]*)(\.\d*)?[eE][-+]?\d+$"),
    list("-+0123456789"),
)


@dataclass(frozen=True)
class Document:
    """A parsed YAML file and the line on which each of its entries stands.

    Attributes:
        path: The file.
        data: Its content as plain Python values.
        lines: Line (from 1) of each entry, by the keys (and places in lists) that lead to it, as text.
    """

    path: Path
    data: dict[str, Any]
    lines: dict[tuple[str, ...], int]

    def line(self, loc: Iterable[Key]) -> int:
        """The line of an entry, or of the nearest entry around it."""
        keys = tuple(map(str, loc))
        while keys and keys not in self.lines:
            keys = keys[:-1]
        return self.lines.get(keys, 1)

    def error(self, message: str, loc: Iterable[Key] = ()) -> UserError:
        """A ``UserError`` that points at an entry of this file."""
        return UserError(message, file=self.path, line=self.line(loc))


def read_yaml(path: Path | str) -> Document:
    """Reads a YAML file whose top level is a mapping.

    Args:
        path: The file.

    Returns:
        Its content with line numbers.

    Raises:
        UserError: The file is missing, unreadable, not YAML, has a key twice, or is no mapping.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        siblings = [str(other) for other in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
        raise UserError(f"no such file: {path}{did_you_mean(str(path), siblings)}") from None
    except (OSError, UnicodeDecodeError) as fault:
        raise UserError(f"cannot be read: {fault}", file=path) from None
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            lines: dict[tuple[str, ...], int] = {}
            _collect_lines(node, (), lines, path)
            data = loader.construct_document(node) if node is not None else None
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as fault:
        mark = fault.problem_mark or fault.context_mark
        raise UserError(
            f"not valid YAML: {fault.problem or fault.context}",
            file=path,
            line=mark.line + 1 if mark else None,
        ) from None
    except RecursionError:
        raise UserError("nested too deeply, or an alias stands inside its own anchor", file=path) from None
    except (yaml.YAMLError, ValueError) as fault:
        raise UserError(f"not valid YAML: {' '.join(str(fault).split())}", file=path) from None
    if not isinstance(data, dict):
        what = "is empty" if data is None else f"has a {type(data).__name__} at its top"
        raise UserError(f"{what}; expected a mapping (key: value)", file=path, line=1)
    return Document(path, data, lines)


def _collect_lines(
    node: yaml.Node | None, keys: tuple[str, ...], lines: dict[tuple[str, ...], int], path: Path
) -> None:
    if isinstance(node, yaml.MappingNode):
        for key_node, value in node.value:
            inner = (*keys, str(key_node.value))
            if inner in lines:
                raise UserError(
                    f"{key_node.value!r} stands here twice (first on line {lines[inner]})",
                    file=path,
                    line=key_node.start_mark.line + 1,
                )
            lines[inner] = key_node.start_mark.line + 1
            _collect_lines(value, inner, lines, path)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            inner = (*keys, str(index))
            lines[inner] = value.start_mark.line + 1
            _collect_lines(value, inner, lines, path)


def validate(document: Document, model: type[Model], at: tuple[Key, ...] = ()) -> Model:
    """Checks a document, or a part of it, against a schema.

    Args:
        document: The file.
        model: The schema.
        at: Keys that lead to the part to check; the whole file by default.

    Raises:
        UserError: It does not fit; the message names the first entry that is wrong, and its line.
    """
    part: Any = document.data
    for key in at:
        part = part[key]
    try:
        return model.model_validate(part, strict=True)  # "16" is no number, 1 no truth value
    except ValidationError as fault:
        message, loc = explain(fault, model)
        raise document.error(message, (*at, *loc)) from None


def explain(fault: ValidationError, model: type[BaseModel]) -> tuple[str, tuple[Key, ...]]:
    """The first complaint of a validation as one sentence, and the keys that lead to it.

    Args:
        fault: What pydantic raised.
        model: The schema that it was checked against, to find the nearest valid name.
    """
    first = fault.errors(include_url=False)[0]
    loc = tuple(key for key in first["loc"] if key != "[key]")  # pydantic's mark for a key of the wrong type
    name = ".".join(str(key) for key in loc)
    if first["type"] == "extra_forbidden":
        known = _fields_at(model, loc[:-1])
        return f"unknown entry {name!r}{did_you_mean(str(loc[-1]), known)}", loc
    if first["type"] == "missing":
        return f"{name!r} is missing", loc
    reason = first["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    reason = reason[:1].lower() + reason[1:]
    given = first.get("input")
    if first["type"] == "value_error" or isinstance(given, dict | list | BaseModel):
        return (f"{name}: {reason}" if name else reason), loc
    hint = ""
    if first["type"] == "literal_error":
        hint = did_you_mean(str(given), re.findall(r"'([^']+)'", str(first["ctx"]["expected"])))
    where = f"{name}: " if name else ""
    return f"{where}{reason}, got {given!r}{hint if 'did you mean' in hint else ''}", loc


def _fields_at(model: type[BaseModel], loc: tuple[Key, ...]) -> list[str]:
    """Names of the fields of the (nested) schema that stands at some keys."""
    current: Any = model
    for key in loc:
        if isinstance(key, int):
            continue
        field = getattr(current, "model_fields", {}).get(key)
        if field is None:
            return []
        current = _schema_in(field.annotation)
    return list(getattr(current, "model_fields", {}))


def _schema_in(annotation: Any) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for inner in getattr(annotation, "__args__", ()):
        found = _schema_in(inner)
        if found is not None:
            return found
    return None
