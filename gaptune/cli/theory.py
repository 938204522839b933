"""``gaptune theory``: the paper's gradient flow in numbers."""

from __future__ import annotations

from pathlib import Path

import click

from gaptune.cli.options import LocalPath, json_option
from gaptune.console.json_output import print_json
from gaptune.console.progress import progress_bar
from gaptune.text.output import echo

on_option = click.option(
    "--config",
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

    from gaptune.paper.theory.rates import SCALES, fit_rates
    from gaptune.paper.theory.reduced import flow

    found = fit_rates()
    lemma = max(float(flow(scale).lemma.max()) for scale in SCALES)
    if as_json:
        rows = [{**asdict(rate), "agrees": rate.agrees} for rate in found]
        print_json({"rates": rows, "lemma_3_1_deviation": lemma})
        return
    from gaptune.console.tables import print_table

    print_table(
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
    from gaptune.paper.theory.clip_runs import first_steps
    from gaptune.paper.theory.setup import open_setup

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

    from gaptune.paper.theory.clip_runs import fit_lines, long_run
    from gaptune.paper.theory.setup import open_setup

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
    from gaptune.console.tables import print_table

    print_table(["line", "R²", "slope"], [[fit.form, f"{fit.r2:.4f}", f"{fit.slope:.4g}"] for fit in fits])
