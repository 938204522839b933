"""``gaptune train``: one trial."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import click

from gaptune.cli.options import LocalPath, config_option, threads_option
from gaptune.console.plain import print_pairs
from gaptune.errors import UserError, brief
from gaptune.storage.paths import check_folder, is_full
from gaptune.text.output import echo

_SHOWN = (
    "train/loss",
    "temperature/tau",
    "geometry/gap",
    "uniformity/w2",
    "retrieval/mean_r1",
    "retrieval/mean_r10",
)


@click.command(epilog="Example: gaptune train --method HS --set training.epochs=2 --out trial")
@click.option(
    "--method",
    metavar="METHOD",
    help="Method of the paper: Baseline, FLT, TS S0 … TS S3, TR softplus, TR exp/s, SLRT, HS, or SS.",
)
@config_option("Sweep config: model, data, and training (sweeps/*.yaml). Default: the embedded data.")
@click.option(
    "--set",
    "assignments",
    metavar="PARAMETER=VALUE",
    multiple=True,
    help="Value of a parameter by its dotted path; may be given several times.",
)
@click.option(
    "--out",
    metavar="DIR",
    type=LocalPath(file_okay=False),
    help="Directory for checkpoints; the same command resumes from them.",
)
@threads_option
def train(
    method: str | None, config_file: Path | None, assignments: tuple[str, ...], out: Path | None, threads: int
) -> None:
    """Train and evaluate one trial.

    Prints a line per report, and all metrics at the end.
    """
    if out is not None:
        check_folder(out, "--out")

    import torch

    from gaptune.config import load_sweep_config
    from gaptune.engine.placement import with_device
    from gaptune.engine.preflight import check_trial, of_training
    from gaptune.engine.signals import stopping
    from gaptune.space.methods import expand_method
    from gaptune.storage.bundled import find
    from gaptune.trial import NonFinite
    from gaptune.trial import train as train_trial
    from gaptune.trial.allocator import keep_freed_memory
    from gaptune.trial.checkpoint import alone

    params = dict(_assignment(text) for text in assignments)
    if method is not None:
        params["method"] = method
    sweep = load_sweep_config(find(config_file or Path("embedded.yaml"), "sweeps"))
    config = with_device(sweep.trial(expand_method(params)), sweep.resources)
    store, sizes = check_trial(config)
    keep_freed_memory()
    torch.set_num_threads(threads)
    try:
        with stopping(), alone(out) if out is not None else nullcontext():
            for remark in sizes.remarks:
                echo(f"warning: {remark}", err=True)
            for note in of_training([config.training.batch_size], store):
                echo(f"note: {note}", err=True)
            echo("  ".join(["epoch", *(f"{name.split('/')[1]:>9}" for name in _SHOWN), "seconds"]))
            for report in train_trial(config, store, checkpoints=out):
                cells = [f"{report.metrics[name]:9.4f}" for name in _SHOWN]
                seconds = report.metrics["time/train_s"] + report.metrics["time/eval_s"]
                echo("  ".join([f"{report.epoch:5d}", *cells, f"{seconds:7.1f}"]))
            echo("")
            print_pairs([(name, f"{value:.4f}") for name, value in report.metrics.items()])
    except OSError as error:
        if out is None or not is_full(error):
            raise
        echo(
            f"stopped: the disk of {out} is full. The previous checkpoint is kept. Free some space, and run the same "
            "command again to resume",
            err=True,
        )
        raise SystemExit(1) from None
    except NonFinite as error:
        echo(f"stopped: non-finite: {error}", err=True)
        raise SystemExit(1) from None


def _assignment(text: str) -> tuple[str, Any]:
    from gaptune.config.document import read_value

    parameter, equals, value = text.partition("=")
    if not equals or not parameter:
        raise UserError(f"--set {brief(text)}: expected PARAMETER=VALUE, such as temperature.tau_end=0.05")
    try:
        return parameter.strip(), read_value(value)
    except UserError as error:
        raise UserError(f"--set {brief(text)}: {error.message}") from None
