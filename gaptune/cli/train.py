"""``gaptune train``: one trial."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import click

from gaptune.cli.options import print_pairs
from gaptune.errors import UserError


@click.command()
@click.option(
    "--method",
    help="A method of the paper: Baseline, FLT, TS S0 … TS S3, TR softplus, TR exp/s, SLRT, HS, SS.",
)
@click.option(
    "--on",
    "sweep_file",
    metavar="SWEEP",
    type=click.Path(path_type=Path),
    help="Model, data and training (sweeps/*.yaml); default: the embedded data.",
)
@click.option(
    "--set",
    "assignments",
    metavar="KNOB=VALUE",
    multiple=True,
    help="Set a knob by its dotted path; may be given several times.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for checkpoints; the same command goes on from them.",
)
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True, help="CPU threads.")
def train(
    method: str | None, sweep_file: Path | None, assignments: tuple[str, ...], out: Path | None, threads: int
) -> None:
    """Train and evaluate one trial."""
    import torch

    from gaptune.config import load_sweep_config
    from gaptune.data import open_training
    from gaptune.methods import expand_method
    from gaptune.shipped import find
    from gaptune.trial import NonFinite
    from gaptune.trial import train as train_trial
    from gaptune.trial.checkpoint import alone

    knobs = dict(_assignment(text) for text in assignments)
    if method is not None:
        knobs["method"] = method
    config = load_sweep_config(find(sweep_file or Path("embedded.yaml"), "sweeps")).trial(expand_method(knobs))
    torch.set_num_threads(threads)
    shown = (
        "train/loss",
        "temperature/tau",
        "geometry/gap",
        "uniformity/w2",
        "retrieval/mean_r1",
        "retrieval/mean_r10",
    )
    try:
        with alone(out) if out is not None else nullcontext():
            click.echo("  ".join(["epoch", *(f"{name.split('/')[1]:>9}" for name in shown), "seconds"]))
            for report in train_trial(config, open_training(config.data), checkpoints=out):
                cells = [f"{report.metrics[name]:9.4f}" for name in shown]
                seconds = report.metrics["time/train_s"] + report.metrics["time/eval_s"]
                click.echo("  ".join([f"{report.epoch:5d}", *cells, f"{seconds:7.1f}"]))
        click.echo("")
        print_pairs([(name, f"{value:.4f}") for name, value in report.metrics.items()])
    except NonFinite as fault:
        click.echo(f"stopped: non-finite: {fault}", err=True)
        raise SystemExit(1) from None


def _assignment(text: str) -> tuple[str, Any]:
    import yaml

    knob, equals, value = text.partition("=")
    if not equals or not knob:
        raise UserError(f"--set {text!r}: expected KNOB=VALUE, such as temperature.tau_end=0.05")
    parsed = yaml.safe_load(value) if value else None
    return knob.strip(), parsed
