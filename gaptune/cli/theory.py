"""``gaptune theory``: the paper's gradient flow in numbers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gaptune.cli.options import LocalPath, json_option, print_json
from gaptune.cli.sweeps import make_console
from gaptune.text.output import echo

if TYPE_CHECKING:
    from gaptune.config import TrialConfig
    from gaptune.data import Store

on_option = click.option(
    "--on",
    "sweep_file",
    metavar="SWEEP",
    type=LocalPath(),
    default=Path("sweeps/embedded.yaml"),
    show_default=True,
    help="Model, data and optimizer (sweeps/*.yaml).",
)


@click.group()
def theory() -> None:
    """Check the paper's theory: rates of the reduced flow, and a real CLIP beside them."""


@theory.command()
@json_option
def rates(as_json: bool) -> None:
    """Integrate the reduced flow and hold its fitted rates against the derived and the published ones."""
    from dataclasses import asdict

    from gaptune.theory.rates import SCALES, fit_rates
    from gaptune.theory.reduced import flow

    found = fit_rates()
    lemma = max(float(flow(scale).lemma.max()) for scale in SCALES)
    if as_json:
        rows = [{**asdict(rate), "agrees": rate.agrees} for rate in found]
        print_json({"rates": rows, "lemma_3_1_deviation": lemma})
        return
    _print_table(
        ["β(ν)", "slope of", "derived", "fitted", "agrees (1 %)", "published"],
        [
            [
                rate.scale,
                rate.what,
                f"{rate.derived:.6g}",
                f"{rate.fitted:.6g}",
                "yes" if rate.agrees else "NO",
                rate.published,
            ]
            for rate in found
        ],
    )
    echo(f"Lemma 3.1 along the trajectories: largest relative deviation {lemma:.1e}")


@theory.command("first-steps")
@on_option
@click.option("--starts", default=100, show_default=True, type=click.IntRange(min=2), help="Initializations.")
@json_option
def first_steps_command(sweep_file: Path, starts: int, as_json: bool) -> None:
    """Train a real CLIP for 10 steps from many initializations: does the gap grow at first?"""
    from gaptune.theory.clip_runs import first_steps

    config, store = open_setup(sweep_file)
    with progress_bar("starts", starts) as show:
        changes = first_steps(config, store, starts=starts, progress=show)
    if as_json:
        print_json({"changes": changes.tolist(), "positive": float((changes > 0).mean())})
        return
    error = changes.std(ddof=1) / len(changes) ** 0.5
    echo(f"change of the gap over the first 10 steps: {changes.mean():.3f} ± {error:.3f} (mean, standard error)")
    echo(f"positive in {(changes > 0).mean():.0%} of {starts} initializations")


@theory.command("long-run")
@on_option
@click.option("--epochs", default=200, show_default=True, type=click.IntRange(min=8), help="Passes over 2,048 pairs.")
@json_option
def long_run_command(sweep_file: Path, epochs: int, as_json: bool) -> None:
    """Train a real CLIP on 2,048 pairs for long: is the gap a line in 1/log² t?"""
    from dataclasses import asdict

    from gaptune.theory.clip_runs import fit_lines, long_run

    config, store = open_setup(sweep_file)
    with progress_bar("epochs", epochs) as show:
        run = long_run(config, store, epochs=epochs, progress=show)
    fits = fit_lines(run)
    if as_json:
        records = {"step": run.step.tolist(), "gap": run.gap.tolist(), "tau": run.tau.tolist()}
        print_json({**records, "fits": [asdict(fit) for fit in fits]})
        return
    echo(
        f"gap {run.gap[0]:.3f} at the start, {run.gap.max():.3f} at most, {run.gap[-1]:.3f} at step {run.step[-1]:.0f}"
    )
    _print_table(["line", "R²", "slope"], [[fit.form, f"{fit.r2:.4f}", f"{fit.slope:.4g}"] for fit in fits])


def open_setup(sweep_file: Path) -> tuple[TrialConfig, Store]:
    """A sweep's configuration and data, for runs on one thread."""
    import torch

    from gaptune.config import load_sweep_config
    from gaptune.data import open_training
    from gaptune.storage.bundled import find

    torch.set_num_threads(1)
    config = load_sweep_config(find(sweep_file, "sweeps")).trial({})
    return config, open_training(config.data)


class progress_bar:  # noqa: N801  (used like the function that it stands for)
    """A progress bar on standard error, as a context that gives the function to call with the number done."""

    def __init__(self, what: str, total: int) -> None:
        from rich.progress import Progress

        self._bar = Progress(console=make_console(stderr=True))
        self._task = self._bar.add_task(what, total=total)

    def __enter__(self) -> Any:
        self._bar.start()
        return lambda done: self._bar.update(self._task, completed=done)

    def __exit__(self, *fault: object) -> None:
        self._bar.stop()


def _print_table(headings: list[str], rows: list[list[str]]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for heading in headings:
        table.add_column(heading)
    for row in rows:
        table.add_row(*row)
    make_console().print(table)
