"""Groups of commands, with sections in their help, and usage errors in one line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click

from gaptune.errors import did_you_mean
from gaptune.text.renamed import MOVED_OPTIONS


class Group(click.Group):
    """A group that refuses an unknown command with its new name, or with the nearest one."""

    group_class = type  # a group below it is of this class, too

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command of the first word."""
        name = args[0]
        if self.get_command(ctx, name) is None and not name.startswith("-") and not ctx.resilient_parsing:
            ctx.fail(f"no command {name!r}{did_you_mean(name, self.commands)}")
        return super().resolve_command(ctx, args)


class SectionedGroup(Group):
    """A group whose help lists the commands in sections.

    Args:
        sections: Commands by the title of their section, in the order of the help.
        more: Further arguments of click's groups.
    """

    def __init__(self, sections: Mapping[str, Sequence[click.Command]], **more: Any) -> None:
        super().__init__(**more)
        self.sections = sections
        for commands in sections.values():
            for command in commands:
                self.add_command(command)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the sections, with their columns aligned."""
        width = max(map(len, self.commands))
        for title, commands in self.sections.items():
            with formatter.section(title):
                limit = formatter.width - width - 6
                formatter.write_dl(
                    [(f"{command.name:<{width}}", command.get_short_help_str(limit)) for command in commands]
                )


def usage_line(error: click.UsageError) -> str:
    """A usage error in one line: what is wrong, the new or the nearest name, and where the help is.

    Args:
        error: An error from click's parser.
    """
    if error.ctx is None or isinstance(error, click.BadOptionUsage):  # which has the context of the outermost group
        return _message(error)
    return f"{_message(error)}; see {error.ctx.command_path} --help"


def _message(error: click.UsageError) -> str:
    if isinstance(error, click.NoSuchOption) and error.ctx is not None:
        return _unknown_option(error.option_name, error.ctx.command)
    if isinstance(error, click.BadParameter) and error.param is not None:
        name = error.param.make_metavar(error.ctx) if _is_argument(error.param) and error.ctx else error.param.opts[0]
        if isinstance(error, click.MissingParameter):
            return f"missing {name}"
        return f"{name}: {_as_clause(error.message)}"
    return _as_clause(error.format_message())


def _is_argument(parameter: click.Parameter) -> bool:
    return isinstance(parameter, click.Argument)


def _unknown_option(name: str, command: click.Command) -> str:
    moved = MOVED_OPTIONS.get(str(command.name), {})
    if name in moved:
        return f"{name} of gaptune {command.name} is a command of its own now: {moved[name]}"
    known = [option for parameter in command.params for option in parameter.opts if option.startswith("--")]
    return f"no option {name!r}{did_you_mean(name, [*known, '--help'])}"


def _as_clause(sentence: str) -> str:
    """A sentence as a part of another: ``No such file.`` as ``no such file``."""
    return sentence[:1].lower() + sentence[1:].rstrip(".")
