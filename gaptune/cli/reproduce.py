"""``gaptune reproduce``: the paper's experiments."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from gaptune.cli.options import LocalPath, address_option, json_option, results_option, tracking_option, typed
from gaptune.cli.sweeps import farewell, load_yaml, run_plan, writable_results
from gaptune.console import make_console
from gaptune.console.json_output import print_json
from gaptune.ledger.names import check_name, fitting_name


@click.command()
@click.option(
    "--config",
    "sweep_file",
    metavar="SWEEP",
    type=LocalPath(),
    default=Path("sweeps/paper_embedded.yaml"),
    show_default=True,
    help="Model, data and training (sweeps/*.yaml).",
)
@click.option("--seeds", type=click.IntRange(min=1), help="Paired seeds of every method (overrides the YAML).")
@click.option("--name", help="Name of the sweep; an existing one is resumed. Default: the name of SWEEP.")
@click.option("--concurrency", type=click.IntRange(min=1), help="Trials side by side (overrides the YAML).")
@results_option
@tracking_option
@address_option
@json_option
def reproduce(
    sweep_file: Path,
    seeds: int | None,
    name: str | None,
    concurrency: int | None,
    results: Path,
    tracking_uri: str | None,
    address: str | None,
    as_json: bool,
) -> None:
    """Run the paper's methods on paired seeds, and hold its claims against what comes out.

    Prints its tables beside the paper's figures, and a verdict for each claim; also as paper.md in the sweep's folder.
    The same command again goes on where it stopped, or shows the tables of what is done.
    """
    from dataclasses import asdict

    from gaptune.engine.plan import prepare
    from gaptune.paper.claims import claims
    from gaptune.paper.tables import paper_markdown, paper_report

    if name is not None:
        check_name(name)
    results = writable_results(results)
    space, config = load_yaml(Path("search_spaces/paper.yaml"), sweep_file, None, concurrency, None)
    if seeds is not None:
        config = config.model_copy(update={"search": config.search.model_copy(update={"seeds": seeds})})
    told: dict[str, Any] = {"results": results, "now": time.time(), "command": typed()}
    told |= {"address": address, "tracking_uri": tracking_uri}
    plan = prepare(space, config, name=name or fitting_name(sweep_file.stem), **told)
    console = make_console(stderr=as_json)
    record = run_plan(plan, console, results, tracking_uri, address)
    (plan.folder / "paper.md").write_text(paper_markdown(record), encoding="utf-8")
    if as_json:
        print_json([asdict(claim) for claim in claims(record)])
    else:
        console.print(paper_report(record))
    farewell(record, plan, console, results)
