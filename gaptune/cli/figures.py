"""``gaptune figures``: the paper's figures from your own runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gaptune.cli.options import LocalPath, SweepName, results_option
from gaptune.cli.theory import starts_option, theory_config_option
from gaptune.errors import UserError
from gaptune.storage.paths import check_folder
from gaptune.text.output import echo

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@click.command(epilog="Example: gaptune figures --only 5,6,7 --sweep example-paper --out figures")
@click.option(
    "--only", metavar="N,N", default="1,2,3,4,5,6,7", show_default=True, help="Numbers of the figures in the paper."
)
@click.option(
    "--sweep",
    "name",
    metavar="NAME",
    type=SweepName(),
    help="Sweep of search_spaces/paper.yaml, for figures 5 to 7, such as `example-paper`.",
)
@click.option(
    "--out",
    metavar="DIR",
    type=LocalPath(file_okay=False),
    default=Path("figures"),
    show_default=True,
    help="Directory for the figures, and for the runs behind them.",
)
@click.option(
    "--epochs",
    metavar="N",
    default=200,
    show_default=True,
    type=click.IntRange(min=8),
    help="Number of epochs of the long runs (figures 1 and 4).",
)
@starts_option
@theory_config_option
@results_option
def figures(only: str, name: str | None, out: Path, epochs: int, starts: int, config_file: Path, results: Path) -> None:
    """Draw the paper's figures 1 to 7 as PNG and SVG.

    Figures 1 and 4 need minutes of training; the runs are kept in the directory and used again.
    """
    from gaptune.console.progress import progress_bar
    from gaptune.paper.figures.runs import Runs, figure2, figure3

    wanted = _numbers(only)
    if name is None and wanted & {5, 6, 7}:
        raise UserError("figures 5 to 7 require --sweep NAME, a sweep of the paper's methods (gaptune reproduce)")
    check_folder(out, "--out")
    out.mkdir(parents=True, exist_ok=True)
    runs = Runs(out, config_file, epochs, starts, progress_bar)
    draw: dict[int, Callable[[], Figure]] = {1: runs.figure1, 2: figure2, 3: figure3, 4: runs.figure4}
    if name is not None:
        draw |= _of_sweep(results, name)
    for number in sorted(wanted):
        figure = draw[number]()
        for ending in ("png", "svg"):
            figure.savefig(out / f"figure{number}.{ending}", dpi=110)
        echo(str(out / f"figure{number}.png"))


def _numbers(text: str) -> set[int]:
    numbers = {int(part) for part in text.split(",") if part.strip().isdigit()}
    if not numbers or numbers - set(range(1, 8)) or len(text.split(",")) != len(numbers):
        raise UserError(f"--only {text!r}: expected numbers from 1 to 7, such as 1,4")
    return numbers


def _of_sweep(results: Path, name: str) -> dict[int, Callable[[], Figure]]:
    from functools import partial

    from gaptune.paper.figures.methods import downstream_figure, methods_figure, retrieval_figure
    from gaptune.results.read import read_sweep

    record = read_sweep(results, name)
    draw = {5: methods_figure, 6: retrieval_figure, 7: downstream_figure}
    return {number: partial(function, record) for number, function in draw.items()}
