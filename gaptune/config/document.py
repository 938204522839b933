"""Reads YAML files with line numbers, so that each error message names its line.

A file may come from an untrusted source, so its size, its depth, and its number of entries are limited. Entries are
counted with aliases and merge keys (``<<``) expanded, because a few lines can otherwise produce billions of them.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from yaml.reader import Reader

from gaptune.errors import UserError, brief, did_you_mean
from gaptune.text.renamed import current_name

Key = str | int
Model = TypeVar("Model", bound=BaseModel)

LARGEST_FILE = 1_000_000
"""Largest size of a file in bytes."""

MOST_ENTRIES = 100_000
"""Largest number of keys, values, and items in a file, with aliases expanded."""

DEEPEST = 50
"""Largest depth of nested mappings and lists."""

_TAG = "tag:yaml.org,2002:"
_KINDS = {"null": "null", "bool": "true or false", "int": "an integer", "float": "a number", "str": "text"}
_CORE = {_TAG + kind for kind in (*_KINDS, "seq", "map", "merge")}
_EXPECTED = {
    **dict.fromkeys(("model_type", "dict_type"), "a mapping (key: value)"),
    **dict.fromkeys(("list_type", "tuple_type"), "a list"),
    **dict.fromkeys(("string_type", "string_unicode"), "text"),
    **dict.fromkeys(("int_type", "int_from_float", "int_parsing", "int_parsing_size"), "an integer"),
    **dict.fromkeys(("float_type", "float_parsing"), "a number"),
    **dict.fromkeys(("bool_type", "bool_parsing"), "true or false"),
    "finite_number": "a finite number",
    "invalid_key": "text as a key",
    "literal_error": "{expected}",
    "string_pattern_mismatch": "text that matches {pattern}",
    "greater_than": "more than {gt:,.12g}",
    "greater_than_equal": "at least {ge:,.12g}",
    "less_than": "less than {lt:,.12g}",
    "less_than_equal": "at most {le:,.12g}",
    "too_short": "{min_length} or more entries",
    "too_long": "{max_length} or fewer entries",
}
"""Expected input by pydantic error type; pydantic's own messages are written for programmers."""
_LONGEST_NUMBER = 400  # characters; Python is slow to parse longer numbers, and nobody needs them


class _Refused(yaml.MarkedYAMLError):
    """Valid YAML that gaptune refuses."""


class _Loader(yaml.SafeLoader):
    """SafeLoader for data that JSON can represent.

    It reads ``1e-3`` as a number, as YAML 1.2 does, and a date as text. It refuses numbers of more than 64 bits,
    Python tags, custom tags, and unpaired surrogates, and names their line.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._entries = self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Composes a node; refuses too many nodes and too deep nesting."""
        self._entries += 1
        self._depth += 1
        mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]  # yaml is untyped
        if self._depth > DEEPEST:
            raise _Refused(None, None, f"nested too deeply (more than {DEEPEST} levels)", mark)
        if self._entries > MOST_ENTRIES:
            raise _Refused(None, None, f"more than {MOST_ENTRIES:,} entries", mark)
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """Returns the value of a node."""
        if node.tag not in _CORE:
            raise _Refused(None, None, f"the tag {node.tag!r} is not allowed", node.start_mark)
        kind = node.tag.removeprefix(_TAG)
        if kind in ("int", "float") and len(node.value) > _LONGEST_NUMBER:
            raise _Refused(None, None, f"too long for a number ({len(node.value):,} characters)", node.start_mark)
        try:
            value = super().construct_object(node, deep)
        except (ValueError, KeyError, OverflowError):  # such as `!!int many`
            what = f"{brief(node.value)} is not {_KINDS.get(kind, kind)}"
            raise _Refused(None, None, what, node.start_mark) from None
        too_large = (isinstance(value, int) and not -(2**63) <= value < 2**63) or (
            isinstance(value, float) and math.isinf(value) and "inf" not in node.value.lower()
        )
        if too_large:
            raise _Refused(None, None, f"the number {brief(node.value)} is too large", node.start_mark)
        if isinstance(value, str) and not value.isascii() and value != value.encode("utf-8", "ignore").decode():
            raise _Refused(None, None, f"{value!r} contains an unpaired surrogate", node.start_mark)
        return value


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag.removeprefix(_TAG) in (*_KINDS, "merge")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    f"{_TAG}float",
    re.compile(r"^[-+]?(\d[\d_]*)(\.\d*)?[eE][-+]?\d+$"),
    list("-+0123456789"),
)


@dataclass(frozen=True)
class Document:
    """A parsed YAML file and the line of each entry.

    Attributes:
        path: Path of the file.
        data: Content as plain Python values.
        lines: Line number (from 1) of each entry, by its keys and list indices as text.
    """

    path: Path
    data: dict[str, Any]
    lines: dict[tuple[str, ...], int]

    def line(self, loc: Iterable[Key]) -> int:
        """Returns the line of an entry, or of the nearest enclosing entry."""
        keys = tuple(map(str, loc))
        while keys and keys not in self.lines:
            keys = keys[:-1]
        return self.lines.get(keys, 1)

    def error(self, message: str, loc: Iterable[Key] = ()) -> UserError:
        """Returns a ``UserError`` with this file and the line of an entry."""
        return UserError(message, file=self.path, line=self.line(loc))


def read_yaml(path: Path | str) -> Document:
    """Reads a YAML file whose top level is a mapping.

    Args:
        path: Path of the file.

    Returns:
        Content of the file with line numbers.

    Raises:
        UserError: The file is missing, unreadable, or too large, is not valid YAML, has a duplicate key, or is not a
            mapping.
    """
    path = Path(path)
    data, lines = _parsed(_text(path), path)
    if not isinstance(data, dict):
        what = "is empty" if data is None else f"has a {type(data).__name__} at the top level"
        raise UserError(f"{what}; expected a mapping (key: value)", file=path, line=1)
    return Document(path, data, lines)


def read_value(text: str) -> Any:
    """Parses a YAML value from the command line, such as ``0.05``, ``[1, 2]``, or ``null``.

    Raises:
        UserError: The text is not valid YAML, or is too long.
    """
    if len(text) > LARGEST_FILE:
        raise UserError(f"too long: {len(text):,} characters (at most {LARGEST_FILE:,})")
    try:
        return _parsed(text, None)[0]
    except UserError as error:
        raise UserError(error.message) from None  # a single value needs no line number


def flow(value: Any) -> str:
    """Formats a value as YAML on one line."""
    text = yaml.safe_dump([value], default_flow_style=True, width=math.inf, allow_unicode=True, sort_keys=False)
    return str(text).strip()[1:-1]


def _text(path: Path) -> str:
    try:
        if not path.is_file() and path.exists():  # reading a pipe could block, and /dev/zero never ends
            raise UserError(f"cannot be read: it is a {'directory' if path.is_dir() else 'device or pipe'}", file=path)
        with path.open("rb") as file:
            content = file.read(LARGEST_FILE + 1)
    except FileNotFoundError:
        siblings = [str(other) for other in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
        raise UserError(f"no such file: {path}{did_you_mean(str(path), siblings)}") from None
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror or error}", file=path) from None
    if len(content) > LARGEST_FILE:
        raise UserError(f"is too large for a config file (more than {LARGEST_FILE:,} bytes)", file=path)
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
            raise UserError("cannot be read: the encoding is UTF-16; save the file as UTF-8", file=path) from None
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"cannot be read: not UTF-8 text (byte 0x{content[error.start]:02x})", file=path, line=line
        ) from None


def _parsed(text: str, path: Path | None) -> tuple[Any, dict[tuple[str, ...], int]]:
    """Parses a text into its content and the line of each entry."""
    if strange := Reader.NON_PRINTABLE.search(text):
        line = text.count("\n", 0, strange.start()) + 1
        raise UserError(f"not valid YAML: unacceptable character {strange[0]!r}", file=path, line=line)
    lines: dict[tuple[str, ...], int] = {}
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None, lines
            _check_size(node, {})
            _collect_lines(node, (), lines, path)
            return loader.construct_document(node), lines
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise UserError(
            ("" if isinstance(error, _Refused) else "not valid YAML: ") + (error.problem or error.context or ""),
            file=path,
            line=mark.line + 1 if mark else None,
        ) from None
    except (yaml.YAMLError, ValueError) as error:
        raise UserError(f"not valid YAML: {' '.join(str(error).split())}", file=path) from None


def _check_size(node: yaml.Node, known: dict[int, int]) -> int:
    """Counts the entries of a node with its aliases expanded. Each node is visited once.

    Args:
        node: Node to count.
        known: Sizes of the nodes counted so far; 0 while a node is being counted.
    """
    if isinstance(node, yaml.ScalarNode):
        return 1
    if id(node) in known:
        if not known[id(node)]:
            raise _Refused(None, None, "an alias is inside its own anchor", node.start_mark)
        return known[id(node)]
    known[id(node)] = 0
    inner = [part for pair in node.value for part in pair] if isinstance(node, yaml.MappingNode) else node.value
    size = 1 + sum(_check_size(part, known) for part in inner)
    if size > MOST_ENTRIES:
        what = f"more than {MOST_ENTRIES:,} entries with aliases expanded"
        raise _Refused(None, None, what, node.start_mark)
    known[id(node)] = size
    return size


def _collect_lines(
    node: yaml.Node, keys: tuple[str, ...], lines: dict[tuple[str, ...], int], path: Path | None
) -> None:
    if isinstance(node, yaml.MappingNode):
        for key_node, value in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                raise UserError("a key is a list or a mapping; expected text", file=path, line=line)
            inner = (*keys, str(key_node.value))
            if inner in lines:
                raise UserError(
                    f"duplicate key {brief(key_node.value)} (first on line {lines[inner]})", file=path, line=line
                )
            lines[inner] = line
            _collect_lines(value, inner, lines, path)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            inner = (*keys, str(index))
            lines[inner] = value.start_mark.line + 1
            _collect_lines(value, inner, lines, path)


def validate(document: Document, model: type[Model], at: tuple[Key, ...] = ()) -> Model:
    """Validates a document, or a part of it, against a schema.

    Args:
        document: Document to validate.
        model: Schema.
        at: Keys of the part to validate; the whole document by default.

    Raises:
        UserError: The document is invalid. The message names the first invalid entry and its line.
    """
    part: Any = document.data
    for key in at:
        part = part[key]
    try:
        return model.model_validate(part, strict=True)  # strict: "16" is not a number, and 1 is not a boolean
    except ValidationError as error:
        message, loc = explain(error, model, at)
        raise document.error(message, (*at, *loc)) from None


def explain(error: ValidationError, model: type[BaseModel], at: tuple[Key, ...] = ()) -> tuple[str, tuple[Key, ...]]:
    """Returns the first error of a validation as one sentence, and the keys of the invalid entry.

    Args:
        error: Error from pydantic.
        model: Schema of the validation, used to suggest the nearest valid name.
        at: Keys of the part that was validated; the message begins with them.
    """
    errors = error.errors(include_url=False)
    first = next((one for one in errors if one["type"] == "extra_forbidden" and _is_old(model, one["loc"])), errors[0])
    loc = tuple(key for key in first["loc"] if key != "[key]")  # pydantic adds "[key]" if a key has the wrong type
    name = ".".join(str(key) for key in (*at, *loc))
    if first["type"] == "extra_forbidden":
        known = _fields_at(model, loc[:-1])
        return f"unknown entry {brief(name)}{did_you_mean(str(loc[-1]), known)}", loc
    if first["type"] == "missing":
        return f"{name!r} is missing", loc
    where = f"{name}: " if name else ""
    if first["type"] not in _EXPECTED:  # from a validator of gaptune, with a complete message
        reason = first["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
        return f"{where}{reason[:1].lower()}{reason[1:]}", loc
    context, given = first.get("ctx", {}), first["input"]
    hint = ""
    if first["type"] == "literal_error" and isinstance(given, str):
        hint = did_you_mean(given, re.findall(r"'([^']+)'", str(context["expected"])))
    got = context.get("actual_length", _shown(given))
    expected = _EXPECTED[first["type"]].format(**context)
    return f"{where}expected {expected}, got {got}{hint if '(known' not in hint else ''}", loc


def _is_old(model: type[BaseModel], loc: tuple[Key, ...]) -> bool:
    """Whether an entry has the old name of a field that was renamed."""
    return current_name(str(loc[-1])) in _fields_at(model, loc[:-1])


def _shown(value: Any) -> str:
    """Formats a value as YAML; a list or a mapping, which may be long, only by its type."""
    if isinstance(value, dict | BaseModel):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    return json.dumps(value) if value is None or isinstance(value, bool) else brief(value)


def _fields_at(model: type[BaseModel], loc: tuple[Key, ...]) -> list[str]:
    """Returns the names of the fields of the (nested) schema at some keys."""
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
