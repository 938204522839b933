"""Commands on whole sweeps: sweep, status, sync, confirm."""

from __future__ import annotations

import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from gaptune.cli.options import (
    LocalPath,
    SweepName,
    TrialNumber,
    address_option,
    json_option,
    results_option,
    tracking_option,
    typed,
)
from gaptune.console.json_output import print_json
from gaptune.errors import UserError
from gaptune.ledger import find_sweep, sweep_folder
from gaptune.ledger.names import check_name, default_name, fitting_name
from gaptune.storage.paths import check_folder
from gaptune.text.output import echo

if TYPE_CHECKING:
    from gaptune.config import SweepConfig
    from gaptune.console.terminal import Console
    from gaptune.engine.plan import Plan
    from gaptune.ledger import SweepRecord
    from gaptune.space.model import Space
from gaptune.console import make_console


@click.command()
@click.argument("space_file", metavar="SPACE", type=LocalPath())
@click.option(
    "--config",
    "sweep_file",
    metavar="SWEEP",
    type=LocalPath(),
    help="How trials are run (sweeps/*.yaml); default: the embedded data.",
)
@click.option("--name", help="Name of the sweep; an existing one is resumed. Default: made of space and time.")
@click.option("--candidates", type=click.IntRange(min=1), help="Trials in all (overrides the YAML).")
@click.option("--concurrency", type=click.IntRange(min=1), help="Trials side by side (overrides the YAML).")
@click.option(
    "--storage",
    metavar="URL",
    envvar="GAPTUNE_STORAGE",
    show_envvar=True,
    help="Where ledger and checkpoints are copied, so that other machines can go on (s3://…, gs://…, file:///…, or a "
    "folder).",
)
@results_option
@tracking_option
@address_option
@click.option(
    "--warm-start",
    metavar="NAME",
    type=SweepName(),
    help="Let the sampler learn from the completed trials of another sweep, which may be `example`.",
)
@click.option("--dry-run", is_flag=True, help="Check everything, show the plan, start nothing.")
def sweep(
    space_file: Path,
    sweep_file: Path | None,
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
    """Search SPACE for the best trade-offs; the same command with the same --name resumes it."""
    from gaptune.console.tables import end_report
    from gaptune.engine.plan import prepare

    if name is not None:
        check_name(name)
    results = writable_results(results)
    space, config = load_yaml(space_file, sweep_file, candidates, concurrency, storage)
    name = name or default_name(space.name, results, time.time())
    if warm_start is not None:
        warm_start = str(find_sweep(results, warm_start))  # its path: an example is not in the results folder
    told: dict[str, Any] = {"results": results, "now": time.time(), "command": typed()}
    told |= {"address": address, "tracking_uri": tracking_uri}
    plan = prepare(space, config, name=name, warm_start=warm_start, **told)
    console = make_console()
    if dry_run:
        from gaptune.console.plan import describe_plan

        console.print(describe_plan(plan), crop=False)  # its lines hold paths and hashes
        return
    console.say(f"sweep {name}: {plan.num_candidates} candidates of {space.name} in {plan.folder}")
    record = run_plan(plan, console, results, tracking_uri, address)
    console.print(end_report(record))
    farewell(record, plan, console, results)


@click.command()
@click.argument("name", type=SweepName(own=True))
@click.option("--seeds", default=5, show_default=True, type=click.IntRange(min=2), help="Fresh seeds per member.")
@click.option("--concurrency", type=click.IntRange(min=1), help="Trials side by side; default: as in the sweep.")
@results_option
@tracking_option
@address_option
def confirm(
    name: str, seeds: int, concurrency: int | None, results: Path, tracking_uri: str | None, address: str | None
) -> None:
    """Train the front of the sweep NAME again on fresh seeds, and show who stays on it."""
    from gaptune.console.tables import confirmed_table
    from gaptune.engine.confirm import confirmation
    from gaptune.ledger import load

    results = writable_results(results)
    found = load(sweep_folder(results, name))
    told: dict[str, Any] = {"results": results, "now": time.time(), "command": typed()}
    told |= {"address": address, "tracking_uri": tracking_uri}
    plan = confirmation(found, seeds=seeds, concurrency=concurrency, **told)
    console = make_console()
    console.say(f"{plan.name}: {plan.num_candidates} members of the front, {seeds} seeds each, in {plan.folder}")
    record = run_plan(plan, console, results, tracking_uri, address)
    console.print(confirmed_table(record))
    farewell(record, plan, console, results)


@click.command()
@click.argument("name", type=SweepName(own=True))
@click.argument("trial", type=TrialNumber())
@click.option("--config", "sweep_file", metavar="SWEEP", required=True, type=LocalPath(), help="The other scale.")
@click.option("--seeds", default=1, show_default=True, type=click.IntRange(min=1), help="Paired seeds.")
@click.option("--name", "new_name", help="Name of the new sweep. Default: NAME-TRIAL-on-SWEEP.")
@results_option
@tracking_option
@address_option
def transfer(
    name: str,
    trial: int,
    sweep_file: Path,
    seeds: int,
    new_name: str | None,
    results: Path,
    tracking_uri: str | None,
    address: str | None,
) -> None:
    """Train the parameters of a TRIAL of the sweep NAME at another scale, as a sweep of its own."""
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
    other = load_sweep_config(find(sweep_file, "sweeps"))
    new_name = new_name or fitting_name(f"{name}-{trial}-on-{sweep_file.stem}")
    told: dict[str, Any] = {"results": results, "now": time.time(), "command": typed()}
    told |= {"address": address, "tracking_uri": tracking_uri}
    plan = transfer_plan(record, record.trials[trial], other, name=new_name, seeds=seeds, **told)
    console = make_console()
    console.say(f"{new_name}: trial {trial} of {name} on {sweep_file.stem}, {seeds} seeds, in {plan.folder}")
    transferred = run_plan(plan, console, results, tracking_uri, address)
    console.print(end_report(transferred))
    farewell(transferred, plan, console, results)


@click.command()
@click.argument("name", type=SweepName())
@results_option
@json_option
def status(name: str, results: Path, as_json: bool) -> None:
    """Show where the sweep NAME stands, running or not."""
    from gaptune.console.tables import end_report, running_table
    from gaptune.ledger import in_use
    from gaptune.results.read import read_sweep
    from gaptune.results.status import progress

    record = read_sweep(results, name)
    running = in_use(find_sweep(results, name))
    if as_json:
        state = "running" if running else "done" if record.done else "stopped"
        print_json({"name": name, "state": state, **progress(record)})
        return
    console = make_console()
    if running:
        stands = "is running"
    elif record.done:
        stands = "is done"
    else:
        stands = f"stopped ({record.paused or 'its driver was killed'}); the command that started it goes on with it"
    console.say(f"{name} {stands}: {record.header.command}")
    console.print(running_table(record))
    console.print(end_report(record))


@click.command()
@click.argument("name", type=SweepName(own=True))
@results_option
@tracking_option
def sync(name: str, results: Path, tracking_uri: str | None) -> None:
    """Bring MLflow up to date with the ledger of the sweep NAME; also into an empty store."""
    from gaptune.engine.publish import synchronize

    runs = synchronize(sweep_folder(results, name), results.resolve(), tracking_uri)
    echo(f"{name}: {runs} trials are in MLflow as in the ledger")


def run_plan(plan: Plan, console: Console, results: Path, tracking_uri: str | None, address: str | None) -> SweepRecord:
    """Runs a plan with its display."""
    from gaptune.console.live import Display
    from gaptune.engine.session import run

    with Display(console) as display:
        return run(plan, display=display, results=results, tracking_uri=tracking_uri, address=address, clock=time.time)


def farewell(record: SweepRecord, plan: Plan, console: Console, results: Path) -> None:
    """Where the results are and what to type next; or why it stopped, and what to type to go on.

    Exits with 128 and the signal after an interruption, and with 1 where the sweep stopped by itself or no trial is
    COMPLETE.
    """
    from gaptune.engine.signals import exit_code
    from gaptune.report import REPORT_FILE
    from gaptune.results.failures import nothing_complete

    if record.paused is not None:
        console.say(f"{record.paused}; what is done is kept. To go on: {again(plan.name)}")
        raise SystemExit(exit_code(record.paused))
    context = click.get_current_context(silent=True)
    given = context.get_parameter_source("results") if context else None
    here = [] if given is ParameterSource.DEFAULT else ["--results", str(results)]
    words = (["front", plan.name], ["show", plan.name, "TRIAL"], ["ui"])
    lines = [
        f"results: {plan.folder}",
        f"report:  {plan.folder / REPORT_FILE}",
        f"next:    {', '.join(shlex.join(['gaptune', *some, *here]) for some in words)}",
    ]
    console.say("\n".join(lines))
    if why := nothing_complete(record):
        console.say(why)
        raise SystemExit(1)


def again(name: str) -> str:
    """The command under way, for a shell: with the name that it has, and with what it took from the environment.

    Args:
        name: Of the sweep.
    """
    context, found = click.get_current_context(), []
    for parameter in context.command.params:
        source = context.get_parameter_source(str(parameter.name))
        if source is ParameterSource.ENVIRONMENT:
            found += [parameter.opts[0], str(context.params[str(parameter.name)])]
        elif source is ParameterSource.DEFAULT and "--name" in parameter.opts:
            found += ["--name", name]
    words = ["gaptune", *sys.argv[1:]]
    return shlex.join([*words[:2], *found, *words[2:]])  # before the rest, which may hold "--"


def writable_results(results: Path) -> Path:
    """The results folder as an absolute path, in which a sweep can be written.

    Raises:
        UserError: It cannot be made, or not be written to.
    """
    results = results.resolve()
    check_folder(results, "--results")
    return results


def check_trial(record: SweepRecord, trial: int) -> None:
    """Raises what a person reads where a sweep has no trial of a number.

    Raises:
        UserError: It has none.
    """
    if trial not in record.trials:
        known = f"it has {min(record.trials)} to {max(record.trials)}" if record.trials else "it has none yet"
        raise UserError(f"sweep {record.name!r} has no trial {trial}; {known}")


def load_yaml(
    space_file: Path, sweep_file: Path | None, candidates: int | None, concurrency: int | None, storage: str | None
) -> tuple[Space, SweepConfig]:
    """The two YAML files, with what the command line overrides.

    Raises:
        UserError: Something in them is wrong, or ``candidates`` is more than a sweep can have, or less than a grid's.
    """
    from gaptune.config import load_sweep_config
    from gaptune.config.sweep import MOST_CANDIDATES
    from gaptune.space.parse import load_space
    from gaptune.storage.bundled import find
    from gaptune.storage.folder import as_url

    space = load_space(find(space_file, "search_spaces"))
    config = load_sweep_config(find(sweep_file or Path("embedded.yaml"), "sweeps"))
    if candidates is not None:
        if candidates > MOST_CANDIDATES:
            raise UserError(f"--candidates {candidates:,}: a sweep has at most {MOST_CANDIDATES:,}")
        if space.grid and candidates < (size := len(space.combinations())):
            raise UserError(
                f"the grid has {size} combinations and all are tried; --candidates {candidates} does not apply"
            )
        config = config.model_copy(update={"search": config.search.model_copy(update={"candidates": candidates})})
    if concurrency is not None:
        resources = config.resources.model_copy(update={"concurrency": concurrency})
        config = config.model_copy(update={"resources": resources})
    return space, config if storage is None else config.model_copy(update={"storage": as_url(storage)})
