"""The command line. Commands parse, call and print; what is heavy is imported inside them."""

from __future__ import annotations

import io
import os
import signal
from typing import NoReturn

import click

from gaptune import __version__
from gaptune.cli.clean import clean
from gaptune.cli.data import data
from gaptune.cli.evaluate import evaluate
from gaptune.cli.figures import figures
from gaptune.cli.model import model
from gaptune.cli.report import report
from gaptune.cli.reproduce import reproduce
from gaptune.cli.results import compare, export, front, list_sweeps, show
from gaptune.cli.space import space
from gaptune.cli.sweeps import confirm, status, sweep, sync, transfer
from gaptune.cli.theory import theory
from gaptune.cli.train import train
from gaptune.cli.ui import notebook, ui
from gaptune.engine.signals import Stopped
from gaptune.errors import UserError
from gaptune.storage.paths import is_full
from gaptune.text.output import Stream, echo, guarded_process, is_closed_pipe, one_line


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
    transfer,
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
    """Entry point: bad input is one line and exit code 2, and what cannot be printed ends nothing."""
    os.environ.pop("MPLBACKEND", None)  # pictures go to files; a notebook's backend may not even be installed here
    with guarded_process() as (output, _):
        try:
            code = _run()
        finally:
            unwritten = _unwritten(output)
    raise SystemExit(code or unwritten)


def _run() -> int:
    """Runs the command; returns its exit code."""
    try:
        found = cli(standalone_mode=False)
        return found if isinstance(found, int) else 0
    except UserError as error:
        echo(f"gaptune: {one_line(str(error))}", err=True)
        return 2
    except OSError as error:
        if not is_full(error):
            raise
        echo(f"gaptune: {error.filename or 'a file'} could not be written: the disk is full", err=True)
        return 1
    except click.ClickException as error:
        said = io.StringIO()
        error.show(said)
        echo(said.getvalue().rstrip(), err=True)
        return error.exit_code
    except (click.Abort, KeyboardInterrupt) as error:
        stopped = next((each for each in (error, error.__cause__) if isinstance(each, Stopped)), Stopped(signal.SIGINT))
        echo(str(stopped), err=True)
        return stopped.exit_code


def _unwritten(output: Stream) -> int:
    """The exit code that follows from output that could not be written; 0 too where only its reader has gone."""
    output.flush()
    error = output.loss()
    if error is None or is_closed_pipe(error):
        return 0
    echo(f"gaptune: the output could not be written: {getattr(error, 'strerror', None) or error}", err=True)
    return 1
