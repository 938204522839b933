"""All commands of the command line."""

import click

from gaptune.cli import cli


def walk(command=cli, words=("gaptune",)):
    """Words and command of the group itself and of everything below it."""
    yield words, command
    if isinstance(command, click.Group):
        for name in command.list_commands(click.Context(command)):
            yield from walk(command.commands[name], (*words, name))
