"""What several commands share."""

from __future__ import annotations

import os
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from gaptune.ledger import FILE_NAME
from gaptune.storage.bundled import EXAMPLES, example
from gaptune.storage.paths import check_file, local_path


class LocalPath(click.Path):
    """A path on this machine; ``~`` is expanded also where no shell has done it."""

    def __init__(self, **kinds: bool) -> None:
        super().__init__(path_type=Path, **kinds)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path, if it can be one."""
        try:
            return super().convert(local_path(value), param, ctx)
        except OSError as error:  # a name that is too long
            self.fail(f"{str(value)[:40]!r} …: {error.strerror}", param, ctx)


class NewFile(LocalPath):
    """A file to write: that it can be written is checked before any work is done for it."""

    def __init__(self, *endings: str) -> None:
        super().__init__(dir_okay=False)
        self._endings = endings

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path, if something can be written there."""
        path = super().convert(value, param, ctx)
        check_file(path, param.opts[0] if param else "file", self._endings)
        return path


results_option = click.option(
    "--results",
    type=LocalPath(file_okay=False),
    envvar="GAPTUNE_RESULTS",
    show_envvar=True,
    default=Path("results"),
    show_default=True,
    help="Folder of all sweeps, with MLflow's store beside them.",
)

tracking_option = click.option(
    "--tracking-uri",
    metavar="URI",
    envvar="MLFLOW_TRACKING_URI",
    show_envvar=True,
    help="MLflow store or server; default: the SQLite file in the results folder.",
)

address_option = click.option(
    "--address",
    envvar="RAY_ADDRESS",
    show_envvar=True,
    help="Address of a running Ray cluster; default: this machine.",
)

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def typed() -> str:
    """The command as a person typed it, quoted for a shell."""
    return shlex.join(["gaptune", *sys.argv[1:]])


class SweepName(click.ParamType[str]):
    """The name of a sweep, completed from the folder of all sweeps.

    Args:
        own: Only what is in that folder; else the sweeps that come with gaptune, too.
    """

    name = "sweep"

    def __init__(self, *, own: bool = False) -> None:
        self._own = own

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Names that exist and begin so."""
        names = {path.parent.name for path in _results(ctx).glob(f"*/{FILE_NAME}")}
        names |= set() if self._own else EXAMPLES.keys()
        return [CompletionItem(name) for name in sorted(names) if name.startswith(incomplete)]


class TrialNumber(click.ParamType[int]):
    """The number of a trial; completed from the ledger of the sweep that was named before it."""

    name = "trial"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The number."""
        if isinstance(value, int):
            return value
        if not re.fullmatch(r"[0-9]{1,18}", value):
            self.fail(f"{value!r}: expected the number of a trial, such as 0", param, ctx)
        return int(value)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Numbers that exist and begin so; found without reading the ledger as such, which may be long."""
        name = str(ctx.params.get("name"))
        known = {path.parent.name: path for path in _results(ctx).glob(f"*/{FILE_NAME}")}
        ledger = known.get(name, example(name) / FILE_NAME if name in EXAMPLES else None)
        content = ledger.read_bytes() if ledger is not None else b""
        numbers = {int(number) for number in re.findall(rb'\n{"event":"trial","at":[^,]+,"trial":(\d+)', content)}
        return [CompletionItem(str(number)) for number in sorted(numbers) if str(number).startswith(incomplete)]


def _results(ctx: click.Context) -> Path:
    return local_path(ctx.params.get("results") or os.environ.get("GAPTUNE_RESULTS", "results"))
