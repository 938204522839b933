"""Commands that run or update whole sweeps: sweep, confirm, transfer, sync."""

from __future__ import annotations

import time
from pathlib import Path

import click

from gaptune.cli.options import (
    SweepName,
    TrialNumber,
    YamlFile,
    address_option,
    concurrency_option,
    config_option,
    results_option,
    tracking_option,
)
from gaptune.cli.session import check_trial, load_yaml, plan_settings, print_next_steps, run_plan, writable_results
from gaptune.console import make_console
from gaptune.ledger import find_sweep, sweep_folder
from gaptune.ledger.names import check_name, default_name, fitting_name
from gaptune.text.output import echo
from gaptune.text.words import counted


@click.command(epilog="Example: gaptune sweep temp --candidates 8 --name first")
@click.argument("space_file", metavar="SPACE", type=YamlFile("search_spaces"))
@config_option("Sweep config: how trials are run (sweeps/*.yaml). Default: the embedded data.")
@click.option(
    "--name", metavar="NAME", help="Name of the sweep; an existing sweep is resumed. Default: made of space and time."
)
@click.option(
    "--candidates",
    metavar="N",
    type=click.IntRange(min=1),
    help="Number of candidates. Default: the value in the sweep config.",
)
@concurrency_option
@click.option(
    "--storage",
    metavar="URL",
    envvar="GAPTUNE_STORAGE",
    show_envvar=True,
    help="Remote storage for copies of the ledger and the checkpoints, from which other machines can resume the sweep "
    "(s3://…, gs://…, file:///…, or an absolute path).",
)
@results_option
@tracking_option
@address_option
@click.option(
    "--warm-start",
    metavar="NAME",
    type=SweepName(),
    help="Sweep whose completed trials the sampler learns from, such as `example`.",
)
@click.option("--dry-run", is_flag=True, help="Check everything and print the plan, but start nothing.")
def sweep(
    space_file: Path,
    config_file: Path | None,
    name: str | None,
    candidates: int | None,
    concurrency: int | None,
    storage: str | None,
    results: Path,
    tracking_uri: str | None,
    address: str | None,
    warm_start: str | None,
    dry_run: bool,
) -> None:
    """Search SPACE for the best trade-offs.

    SPACE is a YAML file, or the name of one that is included in gaptune, such as `temp`. Run the same command with the
    same --name to resume a sweep.
    """
    from gaptune.console.tables import end_report
    from gaptune.engine.plan import prepare

    if name is not None:
        check_name(name)
    results = writable_results(results)
    space, config = load_yaml(space_file, config_file, candidates, concurrency, storage)
    name = name or default_name(space.name, results, time.time())
    if warm_start is not None:
        warm_start = str(find_sweep(results, warm_start))  # its path: an example is not in the results directory
    plan = prepare(space, config, name=name, warm_start=warm_start, **plan_settings(results, tracking_uri, address))
    console = make_console()
    if dry_run:
        from gaptune.console.plan import describe_plan

        console.print(describe_plan(plan), crop=False)  # its lines contain paths and hashes
        return
    number = counted(plan.num_candidates, "candidate")
    console.say(f"sweep {name}: {number} of {space.name} in {plan.folder}")
    record = run_plan(plan, console, results, tracking_uri, address)
    console.print(end_report(record))
    print_next_steps(record, plan, console, results)


@click.command(epilog="Example: gaptune confirm first --seeds 3")
@click.argument("name", type=SweepName(own=True))
@click.option(
    "--seeds",
    metavar="N",
    default=5,
    show_default=True,
    type=click.IntRange(min=2),
    help="Number of new seeds per candidate.",
)
@concurrency_option
@results_option
@tracking_option
@address_option
def confirm(
    name: str, seeds: int, concurrency: int | None, results: Path, tracking_uri: str | None, address: str | None
) -> None:
    """Retrain the front of the sweep NAME on new seeds.

    Reports which candidates remain on the front. The retrained candidates are a sweep of their own.
    """
    from gaptune.console.tables import confirmed_table
    from gaptune.engine.confirm import confirmation
    from gaptune.ledger import load

    results = writable_results(results)
    found = load(sweep_folder(results, name))
    plan = confirmation(found, seeds=seeds, concurrency=concurrency, **plan_settings(results, tracking_uri, address))
    console = make_console()
    number = counted(plan.num_candidates, "candidate")
    console.say(f"{plan.name}: {number} of the front, {seeds} seeds each, in {plan.folder}")
    record = run_plan(plan, console, results, tracking_uri, address)
    console.print(confirmed_table(record))
    print_next_steps(record, plan, console, results)


@click.command(epilog="Example: gaptune transfer first 3 --config flickr8k --seeds 3")
@click.argument("name", type=SweepName(own=True))
@click.argument("trial", type=TrialNumber())
@config_option("Sweep config of the other scale (sweeps/*.yaml).", required=True)
@click.option(
    "--seeds",
    metavar="N",
    default=1,
    show_default=True,
    type=click.IntRange(min=1),
    help="Number of paired seeds.",
)
@click.option("--name", "new_name", metavar="NAME", help="Name of the new sweep. Default: NAME-TRIAL-on-FILE.")
@results_option
@tracking_option
@address_option
def transfer(
    name: str,
    trial: int,
    config_file: Path,
    seeds: int,
    new_name: str | None,
    results: Path,
    tracking_uri: str | None,
    address: str | None,
) -> None:
    """Train the params of a TRIAL at another scale.

    The TRIAL belongs to the sweep NAME. The new trainings are a sweep of their own.
    """
    from gaptune.config import load_sweep_config
    from gaptune.console.tables import end_report
    from gaptune.engine.transfer import transfer_plan
    from gaptune.ledger import load
    from gaptune.storage.bundled import find

    if new_name is not None:
        check_name(new_name)
    results = writable_results(results)
    record = load(sweep_folder(results, name))
    check_trial(record, trial)
    other = load_sweep_config(find(config_file, "sweeps"))
    new_name = new_name or fitting_name(f"{name}-{trial}-on-{config_file.stem}")
    settings = plan_settings(results, tracking_uri, address)
    plan = transfer_plan(record, record.trials[trial], other, name=new_name, seeds=seeds, **settings)
    console = make_console()
    where = f"on {config_file.stem}, {counted(seeds, 'seed')}, in {plan.folder}"
    console.say(f"{new_name}: trial {trial} of {name} {where}")
    transferred = run_plan(plan, console, results, tracking_uri, address)
    console.print(end_report(transferred))
    print_next_steps(transferred, plan, console, results)


@click.command(epilog="Example: gaptune sync first --tracking-uri http://127.0.0.1:5000")
@click.argument("name", type=SweepName(own=True))
@click.option(
    "--storage",
    metavar="URL",
    envvar="GAPTUNE_STORAGE",
    show_envvar=True,
    help="Remote storage of a sweep that runs on another machine: first copy its ledger from there.",
)
@results_option
@tracking_option
def sync(name: str, storage: str | None, results: Path, tracking_uri: str | None) -> None:
    """Update MLflow from the ledger of the sweep NAME.

    Also fills an empty tracking store, and brings the results of a sweep on a cluster to this machine.
    """
    from gaptune.engine.publish import synchronize

    if storage is not None:
        from gaptune.ledger.backup import fetch_ledger
        from gaptune.storage.folder import Folder

        fetch_ledger(Folder(f"{storage.rstrip('/')}/{check_name(name)}"), writable_results(results) / name)
    runs = synchronize(sweep_folder(results, name), results.resolve(), tracking_uri)
    echo(f"{name}: MLflow is up to date with the ledger ({counted(runs, 'trial')})")
