"""``gaptune space``: search spaces."""

from __future__ import annotations

from pathlib import Path

import click

from gaptune.cli.group import Group
from gaptune.cli.options import YamlFile
from gaptune.console import make_console


@click.group(cls=Group, epilog="Example: gaptune space show temp")
def space() -> None:
    """Inspect search spaces."""


@space.command("show", epilog="Example: gaptune space show temp --samples 10")
@click.argument("space_file", metavar="SPACE", type=YamlFile("search_spaces"))
@click.option(
    "--samples",
    metavar="N",
    default=5,
    show_default=True,
    type=click.IntRange(min=0),
    help="Number of random samples.",
)
def space_show(space_file: Path, samples: int) -> None:
    """Show the parameters of SPACE, and random samples.

    Also shows the points that a sweep evaluates first, or the whole grid.
    """
    from gaptune.console.plan import describe_space
    from gaptune.space.idle import idle_parameters
    from gaptune.space.parse import load_space
    from gaptune.storage.bundled import find

    space = load_space(find(space_file, "search_spaces"))
    console = make_console()
    console.print(describe_space(space, samples))
    for warning in idle_parameters(space):
        console.say(f"warning: {warning}")
