"""Writes the tables of the docs that are made from code: parameters, sweep config, metrics, the example's results.

``python docs/generate.py`` replaces the text between ``<!-- table: NAME -->`` and ``<!-- end -->`` in all pages.
A test compares the pages with it.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import click
from griffe import Docstring, Parser
from pydantic import BaseModel, TypeAdapter
from pydantic.fields import FieldInfo

from gaptune.cli import SECTIONS
from gaptune.config import (
    MODEL_PARAMETERS,
    NOT_PARAMETERS,
    ConstraintConfig,
    EvaluationConfig,
    ModelConfig,
    ObjectiveConfig,
    SweepConfig,
    TrialConfig,
)
from gaptune.ledger import load
from gaptune.metrics.table import METRICS, SYSTEM, TASK_METRICS, Metric
from gaptune.paper.tables import paper_markdown
from gaptune.space.parse import ParameterEntry, SpaceFile
from gaptune.storage.bundled import example
from gaptune.towers import TOWERS

PAGES = Path(__file__).resolve().parent
_MARKED = re.compile(r"(<!-- table: (?P<name>[\w ]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def renewed(text: str) -> str:
    """The page with current tables."""
    return _MARKED.sub(lambda found: found[1] + "\n" + TABLES[found["name"]]() + "\n\n" + found[3], text)


def _rows(headings: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    cells = [headings, ("---",) * len(headings), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in cells)


def _schema(model: type[BaseModel], prefix: str = "", names: tuple[str, ...] = ()) -> str:
    """A row for each field that is no group of its own, or for some fields."""
    rows = [
        (f"`{prefix}{name}`", _allowed(field), _default(field), meaning)
        for name, field, meaning in _described(model)
        if not _group(field) and (not names or f"{prefix}{name}" in names)
    ]
    return _rows(("key", "allowed", "default", "meaning"), rows)


def _described(model: type[BaseModel]) -> list[tuple[str, FieldInfo, str]]:
    """Name, field and meaning of each field; the meaning from the docstring of the class."""
    parts = Docstring(model.__doc__ or "", parser=Parser.google).parse()
    entries = [entry for part in parts if part.kind.value == "attributes" for entry in part.value]
    meanings = {entry.name: _yaml_words(entry.description) for entry in entries}
    return [(name, field, meanings.get(name, "")) for name, field in model.model_fields.items()]


def _yaml_words(text: str) -> str:
    """What a docstring says, in the words of YAML and Markdown."""
    return re.sub(r"\bNone\b", "`null`", re.sub(r"\s+", " ", text).replace("``", "`"))


def _group(field: FieldInfo) -> bool:
    return isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)


def _default(field: FieldInfo) -> str:
    value = field.default
    if field.is_required():
        return "required"
    if value is None:
        return "null"
    if isinstance(value, str):
        return f"`{value}`" if value else "none"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.4g}" if isinstance(value, int | float) else "none"


def _allowed(field: FieldInfo) -> str:
    """In words, what YAML may say."""
    return _words(TypeAdapter(Annotated[field.annotation, field]).json_schema())


def _words(schema: dict[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(_words(each) for each in schema["anyOf"])
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    kind = {
        "number": "number",
        "integer": "whole number",
        "boolean": "true, false",
        "string": "text",
        "null": "null",
        "array": "list",
        "object": "mapping",
    }[schema.get("type", "object")]
    low, above = schema.get("minimum"), schema.get("exclusiveMinimum")
    high, below = schema.get("maximum"), schema.get("exclusiveMaximum")
    if low is not None and high is not None:
        return f"{kind}, {low:g} to {high:g}"
    bounds = {"≥": low, ">": above, "≤": high, "<": below}
    told = " and ".join(f"{sign} {bound:g}" for sign, bound in bounds.items() if bound is not None and bound < 2**31)
    return f"{kind} {told}".rstrip()


def _groups(model: type[BaseModel], names: list[str]) -> str:
    """A titled table for each group."""
    parts = []
    for name in names:
        inner = model.model_fields[name].annotation
        assert isinstance(inner, type)
        assert issubclass(inner, BaseModel)
        summary = (inner.__doc__ or "").strip().partition("\n")[0]
        parts.append(f"### {name}\n\n{summary}\n\n{_schema(inner, f'{name}.')}")
    return "\n\n".join(parts)


def _params() -> str:
    groups = [name for name, field in TrialConfig.model_fields.items() if _group(field) and name not in NOT_PARAMETERS]
    heads = f"### model\n\nThe heads of the model `heads`.\n\n{_schema(ModelConfig, 'model.', MODEL_PARAMETERS)}"
    return f"{_groups(TrialConfig, groups)}\n\n### seed\n\n{_schema(TrialConfig, names=('seed',))}\n\n{heads}"


def _sweep() -> str:
    groups = [name for name, field in SweepConfig.model_fields.items() if _group(field)]
    lists = {"evaluate": EvaluationConfig, "objectives": ObjectiveConfig, "constraints": ConstraintConfig}
    parts = [_groups(SweepConfig, [name for name in groups if name in NOT_PARAMETERS])]
    for name, inner in lists.items():
        summary = (inner.__doc__ or "").strip().partition("\n")[0]
        parts.append(f"### {name}\n\nA list. {summary}\n\n{_schema(inner)}")
    parts.append(_groups(SweepConfig, [name for name in groups if name not in TrialConfig.model_fields]))
    return "\n\n".join(parts)


def _metrics(metrics: dict[str, Metric]) -> str:
    rows = [(f"`{one.name}`", one.unit, one.direction, one.meaning, one.source) for one in metrics.values()]
    return _rows(("name", "unit", "direction", "meaning", "source"), rows)


def _towers() -> str:
    """The kinds of frozen towers."""
    rows = [
        (
            f"`{name}`",
            f"{kind.about}{f'; after `@`: {kind.weights}' if kind.weights else ''}",
            ", ".join(kind.modalities),
            f"`gaptune[{kind.extra}]`" if kind.extra else "included",
            f"`{kind.example}`",
        )
        for name, kind in TOWERS.items()
    ]
    return _rows(("KIND", "NAME", "towers of", "installed with", "example"), rows)


def _paper(name: str, place: str = "") -> str:
    """Tables and claims of an example sweep of the paper's methods, without the paper's own tables."""
    folder = example(name)
    _, *sections = paper_markdown(load(folder), folder).split("\n## ")
    own = [section for section in sections if not section.partition("\n")[0].endswith("(MSCOCO, RN50)")]
    titled = [section.replace(": this run", "", 1).split("\n", 1) for section in own]
    return "\n".join(f"### {title}{place}\n{rest}" for title, rest in titled).strip()


def _commands() -> str:
    """All commands in the sections of the help, with their arguments, options, and examples."""
    parts = []
    for title, commands in SECTIONS.items():
        parts.append(f"## {title}")
        for command in commands:
            parts += _command(command, f"gaptune {command.name}")
    return "\n\n".join(parts)


def _command(command: click.Command, words: str) -> list[str]:
    """The parts of a command's section, and of those of its subcommands."""
    context = click.Context(command, info_name=words)
    usage = " ".join([words, *command.collect_usage_pieces(context)])
    paragraphs = (command.help or "").split("\n\n")
    parts = [f"### {words}", f"`{usage}`", *(" ".join(paragraph.split()) for paragraph in paragraphs)]
    options = [option for option in command.params if isinstance(option, click.Option)]
    if options:
        parts.append(_rows(("option", "meaning"), [_option(option, context) for option in options]))
    parts.append(f"Example: `{(command.epilog or '').removeprefix('Example: ')}`")
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            parts += _command(command.commands[name], f"{words} {name}")
    return parts


def _option(option: click.Option, context: click.Context) -> tuple[str, str]:
    """Name and meaning of an option, as the help has them."""
    record = option.get_help_record(context)
    assert record is not None
    name, meaning = record
    return f"`{name}`", re.sub(r"\s+", " ", meaning).replace("<", "&lt;")


TABLES = {
    "space": lambda: _schema(SpaceFile),
    "parameter": lambda: _schema(ParameterEntry),
    "params": _params,
    "sweep config": _sweep,
    "metrics": lambda: _metrics(METRICS),
    "system": lambda: _metrics(SYSTEM),
    "evaluations": lambda: _metrics(TASK_METRICS),
    "paper": lambda: _paper("example-paper"),
    "paper features": lambda: _paper("example-paper-features", " on features"),
    "towers": _towers,
    "commands": _commands,
}


if __name__ == "__main__":
    for page in sorted(PAGES.rglob("*.md")):
        page.write_text(renewed(page.read_text(encoding="utf-8")), encoding="utf-8")
