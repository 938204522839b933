"""Commands that explain a sweep: importance, correlations, failures."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gaptune.cli.options import SweepName, json_option, objective_option, results_option
from gaptune.console import make_console
from gaptune.console.json_output import print_json
from gaptune.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from gaptune.ledger import SweepRecord


@click.command(epilog="Example: gaptune importance example --method FLT")
@click.argument("name", type=SweepName())
@objective_option
@click.option("--fanova", is_flag=True, help="Use fANOVA instead of PED-ANOVA.")
@click.option("--method", metavar="METHOD", help="Only trials of this method, such as FLT.")
@results_option
@json_option
def importance(
    name: str, objectives: tuple[str, ...], fanova: bool, method: str | None, results: Path, as_json: bool
) -> None:
    """Show how much each parameter matters for each objective.

    The importance of a parameter is its fraction of the variation of an objective, by PED-ANOVA or fANOVA.
    """
    from gaptune.console.tables import records_table
    from gaptune.results.importance import importances
    from gaptune.results.read import read_sweep
    from gaptune.results.view import view

    record = view(read_sweep(results, name), objectives)
    _check_method(record, method)
    found = importances(record, "fanova" if fanova else "ped_anova", method)
    if as_json:
        unknown = {objective: asdict(reason) for objective, reason in found.unknown.items()}
        print_json({"importance": [asdict(one) for one in found], "unknown": unknown})
        return
    console = make_console()
    if found:
        console.print(records_table([asdict(one) for one in found], title=f"Parameter importance in {name}"))
    for objective, reason in found.unknown.items():
        console.say(f"{objective}: no importance, because {reason}")


@click.command(epilog="Example: gaptune correlations example --json")
@click.argument("name", type=SweepName())
@results_option
@json_option
def correlations(name: str, results: Path, as_json: bool) -> None:
    """Show rank correlations between metrics of the sweep NAME.

    Prints Spearman's ρ over the completed candidates, with a 95% bootstrap interval.
    """
    from gaptune.console.tables import records_table
    from gaptune.results.correlation import correlations as all_correlations
    from gaptune.results.read import read_sweep

    found = all_correlations(read_sweep(results, name))
    if as_json:
        print_json({"correlations": [asdict(one) for one in found]})
        return
    rows: list[dict[str, Any]] = [
        {"first": one.first, "second": one.second, "ρ": one.rho, "low": one.low, "high": one.high, "n": one.count}
        for one in found
        if one.unknown is None
    ]
    console = make_console()
    if rows:
        console.print(records_table(rows, title=f"Rank correlations in {name}, with 95% intervals"))
    for one in found:
        if one.unknown is not None:
            console.say(f"{one.first} and {one.second}: no correlation, because {one.unknown}")


@click.command(epilog="Example: gaptune failures example")
@click.argument("name", type=SweepName())
@results_option
@json_option
def failures(name: str, results: Path, as_json: bool) -> None:
    """Show failed and stopped trials of the sweep NAME, by reason."""
    from gaptune.console.tables import records_table
    from gaptune.results.failures import unfinished
    from gaptune.results.read import read_sweep

    found = [asdict(one) for one in unfinished(read_sweep(results, name))]
    if as_json:
        print_json({"failures": found})
    elif found:
        make_console().print(records_table(found, title=f"Failed and stopped trials of {name}"))
    else:
        make_console().say("no failed or stopped trials")


def _check_method(record: SweepRecord, method: str | None) -> None:
    """Checks that a trial has this method.

    Raises:
        UserError: None has.
    """
    known = {trial.method for trial in record.trials.values()}
    if method is not None and method not in known:
        raise UserError(f"{record.name!r} has no trial with method {method!r}{did_you_mean(method, known)}")
