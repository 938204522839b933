"""``gaptune theory``: the paper's gradient flow in numbers."""

from __future__ import annotations

from pathlib import Path

import click

from gaptune.cli.group import Group
from gaptune.cli.options import config_option, json_option
from gaptune.console import make_console
from gaptune.console.json_output import print_json
from gaptune.console.progress import progress_bar
from gaptune.text.output import echo

theory_config_option = config_option(
    "Sweep config: model, data, and optimizer (sweeps/*.yaml).",
    default=Path("sweeps/embedded.yaml"),
    show_default=True,
)

starts_option = click.option(
    "--starts",
    metavar="N",
    default=100,
    show_default=True,
    type=click.IntRange(min=2),
    help="Number of initializations of the model.",
)


@click.group(cls=Group, epilog="Example: gaptune theory rates")
def theory() -> None:
    """Check the paper's theory.

    Compares the rates of the reduced flow, and a real CLIP, with the theory.
    """


@theory.command(epilog="Example: gaptune theory rates --json")
@json_option
def rates(as_json: bool) -> None:
    """Integrate the reduced flow and fit its rates.

    Compares the fitted rates with the derived and the published rates.
    """
    from dataclasses import asdict

    from gaptune.paper.theory.rates import SCALES, fit_rates
    from gaptune.paper.theory.reduced import flow

    found = fit_rates()
    lemma = max(float(flow(scale).lemma.max()) for scale in SCALES)
    if as_json:
        rows = [{**asdict(rate), "agrees": rate.agrees} for rate in found]
        print_json({"rates": rows, "lemma_3_1_deviation": lemma})
        return
    from gaptune.console.tables import records_table

    table = records_table(
        [
            {
                "β(ν)": rate.scale,
                "slope of": rate.what,
                "derived": f"{rate.derived:.6g}",
                "fitted": f"{rate.fitted:.6g}",
                "agrees (1%)": "yes" if rate.agrees else "NO",
                "published": rate.published,
            }
            for rate in found
        ]
    )
    make_console().print(table)
    echo(f"Lemma 3.1 along the trajectories: largest relative deviation {lemma:.1e}")


@theory.command("first-steps", epilog="Example: gaptune theory first-steps --starts 20")
@theory_config_option
@starts_option
@json_option
def first_steps_command(config_file: Path, starts: int, as_json: bool) -> None:
    """Train a real CLIP for 10 steps from many initializations.

    Tests whether the modality gap grows in the first steps.
    """
    from gaptune.paper.theory.clip_runs import first_steps
    from gaptune.paper.theory.setup import open_setup

    config, store = open_setup(config_file)
    with progress_bar("starts", starts) as show:
        changes = first_steps(config, store, starts=starts, progress=show)
    if as_json:
        print_json({"changes": changes.tolist(), "positive": float((changes > 0).mean())})
        return
    error = changes.std(ddof=1) / len(changes) ** 0.5
    echo(f"change of the gap over the first 10 steps: {changes.mean():.3f} ± {error:.3f} (mean, standard error)")
    echo(f"positive in {(changes > 0).mean():.0%} of {starts} initializations")


@theory.command("long-run", epilog="Example: gaptune theory long-run --epochs 20")
@theory_config_option
@click.option(
    "--epochs",
    metavar="N",
    default=200,
    show_default=True,
    type=click.IntRange(min=8),
    help="Number of epochs of 2,048 pairs.",
)
@json_option
def long_run_command(config_file: Path, epochs: int, as_json: bool) -> None:
    """Train a real CLIP on 2,048 pairs for many epochs.

    Tests whether the modality gap is linear in 1/log² t.
    """
    from dataclasses import asdict

    from gaptune.paper.theory.clip_runs import fit_lines, long_run
    from gaptune.paper.theory.setup import open_setup

    config, store = open_setup(config_file)
    with progress_bar("epochs", epochs) as show:
        run = long_run(config, store, epochs=epochs, progress=show)
    fits = fit_lines(run)
    if as_json:
        records = {"step": run.step.tolist(), "gap": run.gap.tolist(), "tau": run.tau.tolist()}
        print_json({**records, "fits": [asdict(fit) for fit in fits]})
        return
    start, largest, end = run.gap[0], run.gap.max(), run.gap[-1]
    echo(f"gap {start:.3f} at the start, {largest:.3f} at most, {end:.3f} at step {run.step[-1]:.0f}")
    from gaptune.console.tables import records_table

    rows = [{"line": fit.form, "R²": f"{fit.r2:.4f}", "slope": f"{fit.slope:.4g}"} for fit in fits]
    make_console().print(records_table(rows))
