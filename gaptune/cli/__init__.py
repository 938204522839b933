"""The command line. Commands parse, call and print; what is heavy is imported inside them."""

from __future__ import annotations

import os
import signal
from typing import NoReturn

import click

from gaptune import __version__
from gaptune.cli.clean import clean
from gaptune.cli.data import data
from gaptune.cli.evaluate import evaluate
from gaptune.cli.figures import figures
from gaptune.cli.look import notebook, space, ui
from gaptune.cli.model import model
from gaptune.cli.report import report
from gaptune.cli.reproduce import reproduce
from gaptune.cli.results import compare, export, front, list_sweeps, show
from gaptune.cli.sweeps import confirm, promote, status, sweep, sync
from gaptune.cli.theory import theory
from gaptune.cli.train import train
from gaptune.engine.signals import Stopped
from gaptune.errors import UserError


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="gaptune")
def cli() -> None:
    """Search the trade-off between modality gap, retrieval and uniformity of CLIP-style models.

    \b
    gaptune sweep search_spaces/temp.yaml     run a search on the embedded data
    gaptune ui                                look at its trials in MLflow
    """  # noqa: D301 (click looks for the character itself)


for command in (
    sweep,
    status,
    confirm,
    promote,
    sync,
    list_sweeps,
    front,
    show,
    compare,
    export,
    clean,
    report,
    reproduce,
    figures,
    theory,
    train,
    evaluate,
    data,
    model,
    space,
    ui,
    notebook,
):
    cli.add_command(command)


def main() -> NoReturn:
    """Entry point: bad input is one line and exit code 2."""
    os.environ.pop("MPLBACKEND", None)  # pictures go to files; a notebook's backend may not even be installed here
    try:
        cli(standalone_mode=False)
    except UserError as fault:
        click.echo(f"gaptune: {fault}", err=True)
        raise SystemExit(2) from None
    except click.ClickException as fault:
        fault.show()
        raise SystemExit(fault.exit_code) from None
    except (click.Abort, KeyboardInterrupt) as fault:
        stopped = next((each for each in (fault, fault.__cause__) if isinstance(each, Stopped)), Stopped(signal.SIGINT))
        click.echo(str(stopped), err=True)
        raise SystemExit(stopped.exit_code) from None
    raise SystemExit(0)
