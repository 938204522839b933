"""``gaptune reproduce``: the paper's experiments."""

from __future__ import annotations

from pathlib import Path

import click

from gaptune.cli.options import (
    address_option,
    concurrency_option,
    config_option,
    json_option,
    results_option,
    tracking_option,
)
from gaptune.cli.session import load_yaml, plan_settings, print_next_steps, run_plan, writable_results
from gaptune.console import make_console
from gaptune.console.json_output import print_json
from gaptune.ledger.names import check_name, fitting_name


@click.command(epilog="Example: gaptune reproduce --seeds 2 --name paper")
@config_option(
    "Sweep config: model, data, and training (sweeps/*.yaml).",
    default=Path("sweeps/paper_embedded.yaml"),
    show_default=True,
)
@click.option(
    "--seeds",
    metavar="N",
    type=click.IntRange(min=1),
    help="Number of paired seeds per method. Default: the value in the sweep config.",
)
@click.option(
    "--name", metavar="NAME", help="Name of the sweep; an existing sweep is resumed. Default: the name of the file."
)
@concurrency_option
@results_option
@tracking_option
@address_option
@json_option
def reproduce(
    config_file: Path,
    seeds: int | None,
    name: str | None,
    concurrency: int | None,
    results: Path,
    tracking_uri: str | None,
    address: str | None,
    as_json: bool,
) -> None:
    """Run the paper's methods and test its claims.

    Each method is trained on paired seeds. Swap probabilities that are too small for the number of steps are raised to
    swap in about 12 steps, as in the paper. Prints the tables of the paper with the results of this run, and a verdict
    for each claim. Writes them to paper.md in the directory of the sweep. Run the same command again to resume the
    sweep, or to print its tables.
    """
    from dataclasses import asdict

    from gaptune.engine.plan import prepare
    from gaptune.paper.claims import claims
    from gaptune.paper.swaps import training_steps, with_enough_swaps
    from gaptune.paper.tables import paper_markdown

    if name is not None:
        check_name(name)
    results = writable_results(results)
    space, config = load_yaml(Path("search_spaces/paper.yaml"), config_file, None, concurrency, None)
    if seeds is not None:
        config = config.model_copy(update={"search": config.search.model_copy(update={"seeds": seeds})})
    name = name or fitting_name(config_file.stem)
    space = with_enough_swaps(space, training_steps(config))
    plan = prepare(space, config, name=name, **plan_settings(results, tracking_uri, address))
    console = make_console(stderr=as_json)
    record = run_plan(plan, console, results, tracking_uri, address)
    (plan.folder / "paper.md").write_text(paper_markdown(record, plan.folder), encoding="utf-8")
    if as_json:
        print_json([asdict(claim) for claim in claims(record, plan.folder)])
    else:
        from gaptune.console.paper import paper_report

        console.print(paper_report(record, plan.folder))
    print_next_steps(record, plan, console, results)
