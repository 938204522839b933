"""The command line. Commands parse, call, and print; heavy packages are imported inside of them."""

from __future__ import annotations

import os
import signal
from typing import NoReturn

import click

from gaptune import __version__
from gaptune.cli.analyses import correlations, failures, importance
from gaptune.cli.clean import clean
from gaptune.cli.cluster import cluster
from gaptune.cli.data import data
from gaptune.cli.evaluate import evaluate
from gaptune.cli.figures import figures
from gaptune.cli.group import SectionedGroup, usage_line
from gaptune.cli.model import model
from gaptune.cli.report import report
from gaptune.cli.reproduce import reproduce
from gaptune.cli.results import compare, export, front, list_sweeps, show, status
from gaptune.cli.space import space
from gaptune.cli.sweeps import confirm, sweep, sync, transfer
from gaptune.cli.theory import theory
from gaptune.cli.train import train
from gaptune.cli.ui import notebook, ui
from gaptune.engine.signals import Stopped
from gaptune.errors import UserError
from gaptune.storage.paths import is_full
from gaptune.text.output import Stream, echo, guarded_process, is_closed_pipe, one_line

SECTIONS = {
    "Run": (sweep, confirm, transfer, train, reproduce),
    "Inspect": (
        list_sweeps,
        status,
        front,
        show,
        importance,
        correlations,
        failures,
        compare,
        report,
        export,
        ui,
        notebook,
    ),
    "Data and models": (data, evaluate, model, space),
    "Maintain": (cluster, sync, clean),
    "Paper": (figures, theory),
}
"""The commands in the sections of the help."""


@click.group(
    cls=SectionedGroup,
    sections=SECTIONS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Example: gaptune sweep temp",
)
@click.version_option(__version__, prog_name="gaptune", help="Show the version and exit.")
def cli() -> None:
    """Search the trade-off between modality gap, retrieval, and uniformity of CLIP-style models."""


def main() -> NoReturn:
    """Entry point. Invalid input is one line and exit code 2; an error in printing does not end a command."""
    os.environ.pop("MPLBACKEND", None)  # plots go to files; the backend of a notebook may not be installed here
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
    except click.exceptions.NoArgsIsHelpError as error:
        echo(error.message, err=True)
        return error.exit_code
    except click.UsageError as error:
        echo(f"gaptune: {one_line(usage_line(error))}", err=True)
        return error.exit_code
    except (click.Abort, KeyboardInterrupt) as error:
        stopped = next((each for each in (error, error.__cause__) if isinstance(each, Stopped)), Stopped(signal.SIGINT))
        echo(str(stopped), err=True)
        return stopped.exit_code


def _unwritten(output: Stream) -> int:
    """The exit code for output that could not be written; 0 if only its reader has closed it."""
    output.flush()
    error = output.loss()
    if error is None or is_closed_pipe(error):
        return 0
    echo(f"gaptune: the output could not be written: {getattr(error, 'strerror', None) or error}", err=True)
    return 1
