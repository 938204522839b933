"""The public surface: YAML keys, commands, options, Python names, metrics, and the ledger, as a list in a text file."""

import inspect
import re
from dataclasses import fields
from pathlib import Path
from typing import get_origin

import click
from command_tree import walk
from pydantic import BaseModel

import gaptune
from gaptune.config import SweepConfig, parameter_fields
from gaptune.ledger.header import SweepHeader
from gaptune.metrics.table import METRICS, SYSTEM, TASK_METRICS
from gaptune.space.methods import METHODS
from gaptune.space.parse import ParameterEntry, SpaceFile

ROOT = Path(__file__).resolve().parents[1]
FILE = Path(__file__).with_name("public_surface.txt")
HOW_TO_RENEW = (
    "The public surface has changed. If this is on purpose, run `python tests/test_public_surface.py` to renew "
    "tests/public_surface.txt, and describe the change in CHANGELOG.md; an old name must be refused with the new one "
    "(gaptune/text/renamed.py)."
)


def yaml_keys(model, prefix=""):
    """Dotted paths of all keys of a schema; ``[]`` marks lists."""
    for name, field in model.model_fields.items():
        schema = next(schemas_in(field.annotation), None)
        path = f"{prefix}{name}[]" if schema and get_origin(field.annotation) is tuple else f"{prefix}{name}"
        yield path
        if schema is not None:
            yield from yaml_keys(schema, f"{path}.")


def schemas_in(annotation):
    """The schemas in a type."""
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in getattr(annotation, "__args__", ()):
        yield from schemas_in(inner)


def command_lines():
    """A line for each command with its arguments, and for each option."""
    for words, command in walk():
        context = click.Context(command, info_name=" ".join(words))
        yield " ".join([*words, *command.collect_usage_pieces(context)[1:]])
        for option in command.params:
            if isinstance(option, click.Option):
                env = f" ({option.envvar})" if option.envvar else ""
                yield f"{' '.join(words)} {', '.join(option.opts)}{env}"


def python_names():
    """The names of ``gaptune`` with their signatures, and the public members of ``Sweep``."""
    for name in gaptune.__all__:
        value = getattr(gaptune, name)
        parameters = f"({', '.join(inspect.signature(value).parameters)})" if inspect.isfunction(value) else ""
        yield f"gaptune.{name}{parameters}"
    members = [name for name in vars(gaptune.Sweep) if not name.startswith("_")]
    for name in sorted({*members, *(field.name for field in fields(gaptune.Sweep))}):
        yield f"gaptune.Sweep.{name}"


def documented_imports():
    """The imports from packages of gaptune in the docs of the API."""
    text = (ROOT / "docs/reference/api.md").read_text()
    return {f"{module}.{name}" for module, name in re.findall(r"from (gaptune[\w.]*) import (\w+)", text)}


def ledger_names():
    """The kinds of events, as the code that replays them compares them, and the keys of the header."""
    state = (ROOT / "gaptune/ledger/state.py").read_text()
    yield from sorted({f"event {kind}" for kind in re.findall(r'(?:kind == |case )"(\w+)"', state)})
    yield from sorted(f"header {field.name}" for field in fields(SweepHeader) if field.name != "event")


def surface():
    """The public surface as text."""
    sections = {
        "Keys of a search space": yaml_keys(SpaceFile),
        "Keys of a parameter of a search space": yaml_keys(ParameterEntry),
        "Parameters": parameter_fields(),
        "Methods": METHODS,
        "Keys of a sweep config": yaml_keys(SweepConfig),
        "Commands and options": command_lines(),
        "Python": python_names(),
        "Python imports in the docs": sorted(documented_imports()),
        "Metrics": METRICS,
        "System metrics": SYSTEM,
        "Metrics of an evaluation": TASK_METRICS,
        "Ledger": ledger_names(),
    }
    return "\n\n".join("\n".join([f"# {title}", *lines]) for title, lines in sections.items()) + "\n"


def test_the_public_surface_changes_only_on_purpose():
    assert surface().splitlines() == FILE.read_text(encoding="utf-8").splitlines(), HOW_TO_RENEW


def test_every_name_of_the_public_surface_can_be_imported():
    import importlib

    for name in documented_imports():
        module, _, attribute = name.rpartition(".")
        assert hasattr(importlib.import_module(module), attribute), name


if __name__ == "__main__":
    FILE.write_text(surface(), encoding="utf-8")
