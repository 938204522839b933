"""``gaptune space show`` and ``gaptune ui``: looking before and after."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from gaptune.cli.options import results_option, tracking_option
from gaptune.errors import UserError


@click.group()
def space() -> None:
    """Look at search spaces."""


@space.command("show")
@click.argument("space_file", metavar="SPACE", type=click.Path(path_type=Path))
@click.option("--draws", default=5, show_default=True, type=click.IntRange(min=0), help="Random draws to show.")
def space_show(space_file: Path, draws: int) -> None:
    """Show the knobs of SPACE, the points tried first, and some random draws."""
    from rich.console import Console

    from gaptune.engine.preview import describe_space
    from gaptune.shipped import find
    from gaptune.space import load_space

    Console().print(describe_space(load_space(find(space_file, "search_spaces")), draws))


@click.command()
@results_option
@tracking_option
@click.option("--port", default=5000, show_default=True, type=click.IntRange(1, 65535))
def ui(results: Path, tracking_uri: str | None, port: int) -> None:
    """Open MLflow's pages on the results (on this machine only: http://127.0.0.1:PORT)."""
    from gaptune.tracking import default_uri

    if tracking_uri is None and not (results / "mlflow.db").exists():
        raise UserError(f"there is no mlflow.db in {results}; run a sweep first, or give --results")
    uri = tracking_uri or default_uri(results)
    click.echo(f"http://127.0.0.1:{port}  (Ctrl-C ends it)")
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "server",
        "--backend-store-uri",
        uri,
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    os.execv(command[0], command)
