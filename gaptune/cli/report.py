"""``gaptune report``: a sweep as one HTML file."""

from __future__ import annotations

from pathlib import Path

import click

from gaptune.cli.options import (
    NewFile,
    SweepName,
    constraint_option,
    objective_option,
    port_option,
    results_option,
    tracking_option,
)
from gaptune.ledger import find_sweep
from gaptune.storage.paths import check_folder
from gaptune.text.output import echo


@click.command(epilog="Example: gaptune report example --out example.html")
@click.argument("name", type=SweepName())
@objective_option
@constraint_option
@click.option(
    "--out", metavar="FILE", type=NewFile(), help="File to write. Default: report.html in the directory of the sweep."
)
@click.option("--open", "open_it", is_flag=True, help="Open the report in the browser.")
@click.option(
    "--price",
    metavar="PRICE",
    type=click.FloatRange(min=0),
    help="Price of a GPU-hour, or of a core-hour for a sweep without GPUs.",
)
@port_option(5000, "Port of `gaptune ui`, used for links to MLflow runs.")
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
    """Write the sweep NAME as one HTML file.

    The file needs no network: open it, send it, or print it.
    """
    from gaptune.report import REPORT_FILE, write_report
    from gaptune.results.read import read_sweep
    from gaptune.results.view import view

    record = view(read_sweep(results, name), objectives, constraints)
    path = out or results / name / REPORT_FILE
    if out is None:  # an example sweep has no directory there
        check_folder(path.parent, "--results")
        path.parent.mkdir(parents=True, exist_ok=True)
    local = f"http://127.0.0.1:{port}"
    served = tracking_uri if tracking_uri and tracking_uri.startswith("http") else local
    write_report(record, find_sweep(results, name), path, mlflow_url=served, price=price)
    echo(str(path))
    if open_it:
        click.launch(str(path))
