"""``gaptune space``: what a search space would try."""

from __future__ import annotations

from pathlib import Path

import click

from gaptune.cli.options import LocalPath
from gaptune.console import make_console


@click.group()
def space() -> None:
    """Look at search spaces."""


@space.command("show")
@click.argument("space_file", metavar="SPACE", type=LocalPath())
@click.option("--samples", default=5, show_default=True, type=click.IntRange(min=0), help="Random draws to show.")
def space_show(space_file: Path, samples: int) -> None:
    """Show the parameters of SPACE, the points tried first, and some random draws."""
    from gaptune.console.plan import describe_space
    from gaptune.space.idle import idle_parameters
    from gaptune.space.parse import load_space
    from gaptune.storage.bundled import find

    space = load_space(find(space_file, "search_spaces"))
    console = make_console()
    console.print(describe_space(space, samples))
    for warning in idle_parameters(space):
        console.say(f"warning: {warning}")
