"""All checks of a cluster file."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gaptune.deploy.commands import command_problems, start_problems
from gaptune.deploy.file import ClusterFile
from gaptune.deploy.local_files import file_problems
from gaptune.deploy.nodes import node_problems
from gaptune.deploy.own_machines import own_machine_problems
from gaptune.deploy.sweep import sweep_problems
from gaptune.deploy.values import image_problems, value_problems
from gaptune.deploy.versions import Versions, version_problems
from gaptune.errors import UserError, brief, did_you_mean


def check_cluster(path: Path, sweep: Path | None = None, here: Versions | None = None) -> list[UserError]:
    """Finds what is missing in a cluster file before ``ray up`` starts a machine. Starts and asks nothing.

    Args:
        path: Path of the cluster file.
        sweep: Path of a sweep config that the cluster must be able to run.
        here: Versions to compare with; None for those installed here.

    Returns:
        The problems in the order of their lines; empty if the cluster can be started.

    Raises:
        UserError: A file is missing, is not valid YAML, or the sweep config is invalid.
    """
    file = ClusterFile(path)
    found = [*value_problems(file), *_schema_problems(file)]
    if not found:  # what is not filled in, or has a wrong form, would be reported again as something else
        for check in (image_problems, node_problems, own_machine_problems, file_problems, command_problems):
            found += check(file)
        found += start_problems(file)
        found += version_problems(file, here or Versions.installed())
    if sweep is not None:
        found += sweep_problems(file, sweep)
    return sorted(found, key=lambda problem: (str(problem.file) != str(path), problem.line or 0))


def _schema_problems(file: ClusterFile) -> Iterator[UserError]:
    """Violations of the schema that comes with Ray."""
    import jsonschema  # a dependency of Ray

    package = importlib.util.find_spec("ray")
    assert package is not None
    assert package.origin is not None
    schema = json.loads((Path(package.origin).parent / "autoscaler" / "ray-schema.json").read_text(encoding="utf-8"))
    for error in jsonschema.Draft7Validator(schema).iter_errors(file.document.data):
        loc = tuple(error.absolute_path)
        if error.validator == "additionalProperties":
            known = error.schema["properties"]
            for name in [each for each in error.instance if each not in known]:
                yield file.problem(f"unknown entry{did_you_mean(name, known)}", *loc, name)
        elif error.validator == "required":
            for name in [each for each in error.validator_value if each not in error.instance]:
                yield file.problem(f"{name!r} is missing", *loc)
        elif error.validator == "type":
            yield file.problem(f"expected {_kinds(error.validator_value)}, got {brief(error.instance)}", *loc)
        else:
            yield file.problem(brief(error.message).strip("'\""), *loc)


def _kinds(kinds: Any) -> str:
    names = {"object": "a mapping", "array": "a list", "string": "text", "integer": "an integer", "number": "a number"}
    return " or ".join(names.get(kind, kind) for kind in ([kinds] if isinstance(kinds, str) else kinds))
