"""``gaptune report``: a sweep as one HTML file."""

from __future__ import annotations

from pathlib import Path

import click

from gaptune.cli.options import NewFile, SweepName, results_option, tracking_option
from gaptune.cli.results import constraint_option, objective_option
from gaptune.ledger import find_sweep
from gaptune.storage.paths import check_folder
from gaptune.text.output import echo


@click.command()
@click.argument("name", type=SweepName())
@objective_option
@constraint_option
@click.option(
    "--out", metavar="FILE", type=NewFile(), help="File to write; default: report.html in the sweep's folder."
)
@click.option("--open", "open_it", is_flag=True, help="Open it in the browser.")
@click.option(
    "--price", type=click.FloatRange(min=0), help="Price of a GPU-hour, or of a core-hour where there are no GPUs."
)
@click.option(
    "--port",
    default=5000,
    show_default=True,
    type=click.IntRange(1, 65535),
    help="Port of `gaptune ui`, used for links to runs that no MLflow server has.",
)
@tracking_option
@results_option
def report(
    name: str,
    objectives: tuple[str, ...],
    constraints: tuple[str, ...],
    out: Path | None,
    open_it: bool,
    price: float | None,
    port: int,
    tracking_uri: str | None,
    results: Path,
) -> None:
    """Write the sweep NAME as one HTML file that needs no network: to look at, to send, to print."""
    from gaptune.report import REPORT_FILE, write_report
    from gaptune.results.read import read_sweep
    from gaptune.results.view import view

    record = view(read_sweep(results, name), objectives, constraints)
    path = out or results / name / REPORT_FILE
    if out is None:  # a recorded sweep has no folder there
        check_folder(path.parent, "--results")
        path.parent.mkdir(parents=True, exist_ok=True)
    local = f"http://127.0.0.1:{port}"
    served = tracking_uri if tracking_uri and tracking_uri.startswith("http") else local
    write_report(record, find_sweep(results, name), path, mlflow_url=served, price=price)
    echo(str(path))
    if open_it:
        click.launch(str(path))
