"""What several commands share."""

from __future__ import annotations

from pathlib import Path

import click

results_option = click.option(
    "--results",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="GAPTUNE_RESULTS",
    default=Path("results"),
    show_default=True,
    help="Folder of all sweeps, with MLflow's store beside them.",
)

tracking_option = click.option(
    "--tracking-uri",
    envvar="MLFLOW_TRACKING_URI",
    help="MLflow store or server; default: the SQLite file in the results folder.",
)

address_option = click.option(
    "--address", envvar="RAY_ADDRESS", help="Address of a running Ray cluster; default: this machine."
)


def print_pairs(pairs: list[tuple[str, str]]) -> None:
    """Prints names and values in two columns."""
    width = max(len(label) for label, _ in pairs)
    for label, value in pairs:
        click.echo(f"{label:<{width}}  {value}")
