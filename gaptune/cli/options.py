"""Types and options that several commands share."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from gaptune.errors import UserError
from gaptune.ledger import FILE_NAME
from gaptune.storage.bundled import EXAMPLES, bundled_yaml, example
from gaptune.storage.paths import check_file, local_path

Command = TypeVar("Command", bound=Callable[..., Any])


class LocalPath(click.Path):
    """A path on this machine; ``~`` is expanded even if no shell has done so."""

    def __init__(self, **kinds: bool) -> None:
        super().__init__(path_type=Path, **kinds)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path, if it is a valid one."""
        try:
            return super().convert(local_path(value), param, ctx)
        except OSError as error:  # a name that is too long
            self.fail(f"{str(value)[:40]!r} …: {error.strerror}", param, ctx)


class NewFile(LocalPath):
    """A file to write. Whether it can be written is checked before any work is done.

    Args:
        endings: Allowed file name extensions; none for all.
    """

    def __init__(self, *endings: str) -> None:
        super().__init__(dir_okay=False)
        self._endings = endings

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path, if a file can be written there."""
        path = super().convert(value, param, ctx)
        check_file(path, param.opts[0] if param else "file", self._endings)
        return path


class YamlFile(LocalPath):
    """A YAML file, or the name of one that is included in gaptune.

    Args:
        folder: Directory of the included files: ``search_spaces`` or ``sweeps``.
    """

    def __init__(self, folder: str) -> None:
        super().__init__()
        self._folder = folder

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Names of included files, and files (bash offers files only if no name matches)."""
        names = sorted(Path(file).stem for file in bundled_yaml(self._folder))
        matching = [CompletionItem(name) for name in names if name.startswith(incomplete)]
        return [CompletionItem(incomplete, type="file"), *matching]


class SweepName(click.ParamType[str]):
    """The name of a sweep, completed from the results directory.

    Args:
        own: Complete only sweeps of the results directory, without the example sweeps.
    """

    name = "sweep"

    def __init__(self, *, own: bool = False) -> None:
        self._own = own

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Names of sweeps that start with the incomplete word."""
        names = {path.parent.name for path in _results(ctx).glob(f"*/{FILE_NAME}")}
        names |= set() if self._own else EXAMPLES.keys()
        return [CompletionItem(name) for name in sorted(names) if name.startswith(incomplete)]


class TrialNumber(click.ParamType[int]):
    """The number of a trial, completed from the ledger of the sweep that was named before it."""

    name = "trial"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The number."""
        if isinstance(value, int):
            return value
        if not re.fullmatch(r"[0-9]{1,18}", value):
            self.fail(f"{value!r}: expected the number of a trial, such as 0", param, ctx)
        return int(value)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Numbers of trials that start with the incomplete word, without parsing the ledger, which may be long."""
        name = str(ctx.params.get("name"))
        known = {path.parent.name: path for path in _results(ctx).glob(f"*/{FILE_NAME}")}
        ledger = known.get(name, example(name) / FILE_NAME if name in EXAMPLES else None)
        content = ledger.read_bytes() if ledger is not None else b""
        numbers = {int(number) for number in re.findall(rb'\n{"event":"trial","at":[^,]+,"trial":(\d+)', content)}
        return [CompletionItem(str(number)) for number in sorted(numbers) if str(number).startswith(incomplete)]


def _results(ctx: click.Context) -> Path:
    return local_path(ctx.params.get("results") or os.environ.get("GAPTUNE_RESULTS", "results"))


results_option = click.option(
    "--results",
    metavar="DIR",
    type=LocalPath(file_okay=False),
    envvar="GAPTUNE_RESULTS",
    show_envvar=True,
    default=Path("results"),
    show_default=True,
    help="Results directory, with all sweeps and MLflow's tracking store.",
)

tracking_option = click.option(
    "--tracking-uri",
    metavar="URI",
    envvar="MLFLOW_TRACKING_URI",
    show_envvar=True,
    help="MLflow's tracking store or server. Default: a SQLite file in the results directory.",
)

address_option = click.option(
    "--address",
    metavar="ADDRESS",
    envvar="RAY_ADDRESS",
    show_envvar=True,
    help="Address of a running Ray cluster. Default: this machine.",
)


def port_option(default: int, text: str) -> Callable[[Command], Command]:
    """The option ``--port``.

    Args:
        default: Default port.
        text: Help text.
    """
    kind = click.IntRange(1, 65535)
    return click.option("--port", metavar="PORT", default=default, show_default=True, type=kind, help=text)


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")

concurrency_option = click.option(
    "--concurrency",
    metavar="N",
    type=click.IntRange(min=1),
    help="Largest number of trials in parallel. Default: the value in the sweep config.",
)

objective_option = click.option(
    "--objective",
    "objectives",
    metavar="METRIC[:max|min]",
    multiple=True,
    help="Objective in place of those of the sweep; give it two to four times.",
)

constraint_option = click.option(
    "--constraint",
    "constraints",
    metavar="'METRIC<=X'",
    multiple=True,
    help="Additional constraint with <= or >=; may be given several times.",
)

plot_option = click.option(
    "--plot",
    metavar="FILE",
    type=NewFile(".png", ".svg", ".pdf"),
    help="Also write a plot: *.png, *.svg, or *.pdf.",
)

threads_option = click.option(
    "--threads", metavar="N", type=click.IntRange(min=1), default=1, show_default=True, help="Number of CPU threads."
)


def config_option(help: str, **more: Any) -> Callable[[Command], Command]:
    """The option ``--config``, with what the command reads from the file.

    Args:
        help: Help text.
        more: Further arguments of the option.
    """
    return click.option("--config", "config_file", metavar="FILE", type=YamlFile("sweeps"), help=help, **more)


def by_split(texts: Iterable[str], option: str, value: str = "FILE") -> dict[str, list[str]]:
    """The values of an option that is given as SPLIT=FILE, in their order.

    Args:
        texts: What was given.
        option: The option, for messages.
        value: What stands behind the split, for messages.

    Raises:
        UserError: A value has no split or no file.
    """
    from gaptune.data.sources.splits import canonical

    found: dict[str, list[str]] = {}
    for text in texts:
        split, equals, file = text.partition("=")
        if not equals or not split or not file:
            raise UserError(f"{option} {text!r}: expected SPLIT={value}, such as train={value}")
        found.setdefault(canonical(split), []).append(file)
    return found


def one_by_split(texts: Iterable[str], option: str, value: str = "FILE") -> dict[str, str]:
    """As ``by_split``, for an option with one value for each split.

    Raises:
        UserError: A value has no split or no file, or there are two for one split.
    """
    found = by_split(texts, option, value)
    for split, files in found.items():
        if len(files) > 1:
            raise UserError(f"{option} is given twice for {split}")
    return {split: file for split, (file,) in found.items()}
