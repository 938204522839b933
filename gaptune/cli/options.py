"""What several commands share."""

from __future__ import annotations

import json
import math
import os
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from gaptune.ledger import FILE_NAME

results_option = click.option(
    "--results",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="GAPTUNE_RESULTS",
    default=Path("results"),
    show_default=True,
    help="Folder of all sweeps, with MLflow's store beside them.",
)

tracking_option = click.option(
    "--tracking-uri",
    envvar="MLFLOW_TRACKING_URI",
    help="MLflow store or server; default: the SQLite file in the results folder.",
)

address_option = click.option(
    "--address", envvar="RAY_ADDRESS", help="Address of a running Ray cluster; default: this machine."
)

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def typed() -> str:
    """The command as a person typed it, quoted for a shell."""
    return shlex.join(["gaptune", *sys.argv[1:]])


def print_json(value: Any) -> None:
    """Prints JSON; a number that is not finite, which JSON does not have, as null."""
    click.echo(json.dumps(_plain(value), indent=2))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def print_pairs(pairs: list[tuple[str, str]]) -> None:
    """Prints names and values in two columns."""
    width = max(len(label) for label, _ in pairs)
    for label, value in pairs:
        click.echo(f"{label:<{width}}  {value}")


class SweepName(click.ParamType[str]):
    """The name of a sweep; completed from the folder of all sweeps."""

    name = "sweep"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Names that exist and begin so."""
        return [CompletionItem(path.parent.name) for path in sorted(_results(ctx).glob(f"{incomplete}*/{FILE_NAME}"))]


class TrialNumber(click.IntRange):
    """The number of a trial; completed from the ledger of the sweep that was named before it."""

    def __init__(self) -> None:
        super().__init__(min=0)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Numbers that exist and begin so; found without reading the ledger as such, which may be long."""
        ledger = _results(ctx) / str(ctx.params.get("name")) / FILE_NAME
        content = ledger.read_bytes() if ledger.exists() else b""
        numbers = {int(number) for number in re.findall(rb'\n{"event":"trial","at":[^,]+,"trial":(\d+)', content)}
        return [CompletionItem(str(number)) for number in sorted(numbers) if str(number).startswith(incomplete)]


def _results(ctx: click.Context) -> Path:
    return Path(ctx.params.get("results") or os.environ.get("GAPTUNE_RESULTS", "results"))
