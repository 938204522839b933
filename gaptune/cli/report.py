"""``gaptune report``: a sweep as one HTML file."""

from __future__ import annotations

from pathlib import Path

import click

from gaptune.cli.options import SweepName, results_option, tracking_option
from gaptune.cli.results import constraint_option, objective_option
from gaptune.errors import UserError
from gaptune.ledger import find_sweep, load


@click.command()
@click.argument("name", type=SweepName())
@objective_option
@constraint_option
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Default: report.html in its folder.")
@click.option("--open", "open_it", is_flag=True, help="Open it in the browser.")
@click.option("--price", type=click.FloatRange(min=0), help="Of a GPU-hour; of a core-hour where there are no GPUs.")
@click.option("--port", default=5000, show_default=True, help="Of `gaptune ui`, for links to runs that no server has.")
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
    from gaptune.report import write_report
    from gaptune.results.view import view

    folder = find_sweep(results, name)
    if out is not None and not out.parent.is_dir():
        raise UserError(f"there is no folder {out.parent} to write the report to")
    path = out or results / name / "report.html"
    path.parent.mkdir(parents=True, exist_ok=True)  # a recorded sweep has none there
    local = f"http://127.0.0.1:{port}"
    served = tracking_uri if tracking_uri and tracking_uri.startswith("http") else local
    write_report(view(load(folder), objectives, constraints), folder, path, mlflow_url=served, price=price)
    click.echo(str(path))
    if open_it:
        click.launch(str(path))
