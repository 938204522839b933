"""``gaptune figures``: the paper's figures from own runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gaptune.cli.options import LocalPath, SweepName, results_option
from gaptune.cli.theory import on_option, open_setup, progress_bar
from gaptune.errors import UserError
from gaptune.storage.paths import check_folder
from gaptune.text.output import echo

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from gaptune.theory.clip_runs import LongRun


@click.command()
@click.option("--only", metavar="N,N", default="1,2,3,4,5,6,7", show_default=True, help="Which of the paper's figures.")
@click.option(
    "--sweep", "name", metavar="NAME", type=SweepName(), help="A sweep of search_spaces/paper.yaml, for figures 5 to 7."
)
@click.option(
    "--out",
    type=LocalPath(file_okay=False),
    default=Path("figures"),
    show_default=True,
    help="Folder for the pictures, and for what was trained for them.",
)
@click.option(
    "--epochs", default=200, show_default=True, type=click.IntRange(min=8), help="Of the long runs (1 and 4)."
)
@click.option("--starts", default=100, show_default=True, type=click.IntRange(min=2), help="Initializations (4).")
@on_option
@results_option
def figures(only: str, name: str | None, out: Path, epochs: int, starts: int, sweep_file: Path, results: Path) -> None:
    """Draw the paper's figures 1 to 7 as PNG and SVG.

    What takes minutes to train (figures 1 and 4) is kept in the folder and used again.
    """
    wanted = _numbers(only)
    if name is None and wanted & {5, 6, 7}:
        raise UserError("figures 5 to 7 show a sweep over the paper's methods: give --sweep NAME (gaptune reproduce)")
    check_folder(out, "--out")
    out.mkdir(parents=True, exist_ok=True)
    runs = _Runs(out, sweep_file, epochs, starts)
    draw: dict[int, Callable[[], Figure]] = {1: runs.figure1, 2: _figure2, 3: _figure3, 4: runs.figure4}
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

    from gaptune.figures.methods import downstream_figure, methods_figure, retrieval_figure
    from gaptune.results.read import read_sweep

    record = read_sweep(results, name)
    draw = {5: methods_figure, 6: retrieval_figure, 7: downstream_figure}
    return {number: partial(function, record) for number, function in draw.items()}


def _figure2() -> Figure:
    from gaptune.figures.theory import flow_figure
    from gaptune.theory.features import free_flow, random_features
    from gaptune.theory.scales import Scale

    x, y = (random_features(128, 32, seed, spread=0.5) for seed in (0, 1))
    scales = (Scale("exp"), Scale("softplus"), Scale("fixed"))
    return flow_figure({scale.name: free_flow(scale, x, y, decades=6.0) for scale in scales})


def _figure3() -> Figure:
    from gaptune.figures.theory import parallel_figure

    return parallel_figure()


class _Runs:
    """The trainings of a real CLIP, kept in a folder as soon as they are done."""

    def __init__(self, folder: Path, sweep_file: Path, epochs: int, starts: int) -> None:
        self._folder = folder
        self._sweep_file = sweep_file
        self._epochs = epochs
        self._starts = starts

    def figure1(self) -> Figure:
        from gaptune.figures.theory import pca_figure

        random, closed = self._long_run(closed_first=False), self._long_run(closed_first=True)
        panels = {"(a) from a random start": (random.x, random.y), "(b) from a closed gap": (closed.x, closed.y)}
        return pca_figure(panels)

    def figure4(self) -> Figure:
        import numpy as np

        from gaptune.figures.theory import real_figure
        from gaptune.theory.clip_runs import first_steps

        kept = self._folder / f"first-steps-{self._sweep_file.stem}-{self._starts}.npz"
        if not kept.exists():
            config, store = open_setup(self._sweep_file)
            with progress_bar("first steps", self._starts) as show:
                changes = first_steps(config, store, starts=self._starts, progress=show)
            _keep(kept, {"changes": changes})
        run = self._long_run(closed_first=False)
        with np.load(kept, allow_pickle=False) as arrays:
            return real_figure(run.step, run.gap, arrays["changes"])

    def _long_run(self, *, closed_first: bool) -> LongRun:
        from dataclasses import asdict

        import numpy as np

        from gaptune.theory.clip_runs import LongRun, long_run

        what = "closed-start" if closed_first else "random-start"
        kept = self._folder / f"long-run-{what}-{self._sweep_file.stem}-{self._epochs}.npz"
        if not kept.exists():
            config, store = open_setup(self._sweep_file)
            with progress_bar(what, self._epochs) as show:
                run = long_run(config, store, epochs=self._epochs, closed_first=closed_first, progress=show)
            _keep(kept, asdict(run))
        with np.load(kept, allow_pickle=False) as arrays:
            return LongRun(**arrays)


def _keep(path: Path, arrays: dict[str, Any]) -> None:
    """Writes arrays in one step, so that an interrupted write is not taken for a finished run."""
    import numpy as np

    partial = path.with_suffix(".partial.npz")
    np.savez_compressed(partial, **arrays)
    partial.replace(path)
