"""The file of ``ray up``, with the line of each entry."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gaptune.config.document import Document, Key, read_yaml
from gaptune.errors import UserError

Loc = tuple[Key, ...]
"""Keys and list indices of an entry."""

SETUP = ("initialization_commands", "setup_commands", "head_setup_commands", "worker_setup_commands")
START = ("head_start_ray_commands", "worker_start_ray_commands")


class ClusterFile:
    """A cluster file whose form may be wrong: what is not as expected reads as empty.

    Args:
        path: Path of the file.

    Raises:
        UserError: The file is missing or is not a YAML mapping.
    """

    def __init__(self, path: Path) -> None:
        self.document: Document = read_yaml(path)
        self._text = path.read_text(encoding="utf-8").splitlines()

    def problem(self, message: str, *loc: Key) -> UserError:
        """A problem at an entry: ``FILE:LINE: KEYS: MESSAGE``."""
        name = ".".join(map(str, loc))
        return self.document.error(f"{name}: {message}" if name else message, loc)

    def get(self, *loc: Key) -> Any:
        """The value of an entry; None if it does not exist."""
        value: Any = self.document.data
        for key in loc:
            try:
                value = value[key]
            except (KeyError, IndexError, TypeError):
                return None
        return value

    def mapping(self, *loc: Key) -> dict[Any, Any]:
        """The mapping at an entry; empty if it is something else."""
        value = self.get(*loc)
        return value if isinstance(value, dict) else {}

    def items(self, *loc: Key) -> list[Any]:
        """The list at an entry; empty if it is something else."""
        value = self.get(*loc)
        return value if isinstance(value, list) else []

    def text(self, *loc: Key) -> str:
        """The text at an entry; empty if it is something else."""
        value = self.get(*loc)
        return value if isinstance(value, str) else ""

    @property
    def provider(self) -> str:
        """The kind of the machines, such as ``aws``, ``gcp``, or ``local``."""
        return self.text("provider", "type")

    @property
    def in_docker(self) -> bool:
        """Whether Ray runs in a container."""
        return bool(self.mapping("docker").keys() & {"image", "head_image", "worker_image"})

    @property
    def head(self) -> str:
        """The type of the head node."""
        return self.text("head_node_type")

    def workers(self) -> Iterator[tuple[str, dict[Any, Any]]]:
        """Name and description of each type of worker."""
        for name, kind in self.mapping("available_node_types").items():
            if name != self.head and isinstance(kind, dict):
                yield str(name), kind

    def scalars(self) -> Iterator[tuple[Loc, Any]]:
        """All values that are neither a mapping nor a list, with their keys."""
        yield from _scalars(self.document.data, ())

    def commands(self, *names: str) -> Iterator[tuple[Loc, str]]:
        """Shell commands, with their keys.

        Args:
            names: Lists of commands; those of node types are included.
        """
        for loc, value in self.scalars():
            if isinstance(value, str) and len(loc) >= 2 and loc[-2] in names:
                yield loc, value

    def comment(self, *loc: Key) -> str:
        """The comment at the end of an entry's line."""
        line = self._text[self.document.line(loc) - 1]
        return line.partition(" #")[2].strip()


def _scalars(value: Any, loc: Loc) -> Iterator[tuple[Loc, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _scalars(inner, (*loc, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _scalars(inner, (*loc, index))
    else:
        yield loc, value
