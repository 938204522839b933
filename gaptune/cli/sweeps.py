"""Commands on whole sweeps: sweep, status, sync, confirm."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gaptune.cli.options import (
    SweepName,
    TrialNumber,
    address_option,
    json_option,
    print_json,
    results_option,
    tracking_option,
    typed,
)
from gaptune.errors import UserError
from gaptune.ledger import sweep_folder

if TYPE_CHECKING:
    from rich.console import Console

    from gaptune.config import SweepConfig
    from gaptune.engine.sweep import Plan
    from gaptune.ledger import SweepRecord
    from gaptune.space import Space

_PLAIN: dict[str, Any] = {"highlight": False, "soft_wrap": True}


@click.command()
@click.argument("space_file", metavar="SPACE", type=click.Path(path_type=Path))
@click.option(
    "--on",
    "sweep_file",
    metavar="SWEEP",
    type=click.Path(path_type=Path),
    help="How trials are run (sweeps/*.yaml); default: the embedded data.",
)
@click.option("--name", help="Name of the sweep; one that exists is gone on with. Default: space and date.")
@click.option("--trials", type=click.IntRange(min=1), help="Trials in all (overrides the YAML).")
@click.option("--concurrency", type=click.IntRange(min=1), help="Trials side by side (overrides the YAML).")
@click.option(
    "--storage",
    metavar="URL",
    envvar="GAPTUNE_STORAGE",
    help="Where ledger and checkpoints are copied, so that other machines can go on (s3://…, gs://…, file://…).",
)
@results_option
@tracking_option
@address_option
@click.option("--warm-start", metavar="NAME", help="Let the sampler learn from another sweep's completed trials.")
@click.option("--dry-run", is_flag=True, help="Check everything, show the plan, start nothing.")
def sweep(
    space_file: Path,
    sweep_file: Path | None,
    name: str | None,
    trials: int | None,
    concurrency: int | None,
    storage: str | None,
    results: Path,
    tracking_uri: str | None,
    address: str | None,
    warm_start: str | None,
    dry_run: bool,
) -> None:
    """Search SPACE for the best trade-offs; the same command again goes on where it stopped."""
    from gaptune.engine.sweep import prepare
    from gaptune.results.table import end_report

    space, config = load_yaml(space_file, sweep_file, trials, concurrency, storage)
    name = name or f"{space.name}-{time.strftime('%Y%m%d-%H%M%S')}"
    results = results.resolve()
    if warm_start is not None:
        sweep_folder(results, warm_start)
    told: dict[str, Any] = {"results": results, "now": time.time(), "command": typed()}
    told |= {"address": address, "tracking_uri": tracking_uri}
    plan = prepare(space, config, name=name, warm_start=warm_start, **told)
    console = make_console()
    if dry_run:
        click.echo(_plan_text(plan, console))
        return
    console.print(f"sweep {name}: {plan.budget} trials of {space.name} in {plan.folder}", **_PLAIN)
    record = run_plan(plan, console, results, tracking_uri, address)
    console.print(end_report(record))
    farewell(record, plan, console, results)


@click.command()
@click.argument("name", type=SweepName())
@click.option("--seeds", default=5, show_default=True, type=click.IntRange(min=2), help="Fresh seeds per member.")
@click.option("--concurrency", type=click.IntRange(min=1), help="Trials side by side; default: as in the sweep.")
@results_option
@tracking_option
@address_option
def confirm(
    name: str, seeds: int, concurrency: int | None, results: Path, tracking_uri: str | None, address: str | None
) -> None:
    """Train the front of the sweep NAME again on fresh seeds, and show who stays on it."""
    from gaptune.engine.confirm import confirmation
    from gaptune.ledger import load
    from gaptune.results.table import confirmed_table

    results = results.resolve()
    found = load(sweep_folder(results, name))
    told: dict[str, Any] = {"results": results, "now": time.time(), "command": typed()}
    told |= {"address": address, "tracking_uri": tracking_uri}
    plan = confirmation(found, seeds=seeds, concurrency=concurrency, **told)
    console = make_console()
    console.print(f"{plan.name}: {plan.budget} members of the front, {seeds} seeds each, in {plan.folder}", **_PLAIN)
    record = run_plan(plan, console, results, tracking_uri, address)
    console.print(confirmed_table(record))
    farewell(record, plan, console, results)


@click.command()
@click.argument("name", type=SweepName())
@click.argument("trial", type=TrialNumber())
@click.option(
    "--on", "sweep_file", metavar="SWEEP", required=True, type=click.Path(path_type=Path), help="The other scale."
)
@click.option("--seeds", default=1, show_default=True, type=click.IntRange(min=1), help="Paired seeds.")
@click.option("--name", "new_name", help="Name of the new sweep. Default: NAME-TRIAL-on-SWEEP.")
@results_option
@tracking_option
@address_option
def promote(
    name: str,
    trial: int,
    sweep_file: Path,
    seeds: int,
    new_name: str | None,
    results: Path,
    tracking_uri: str | None,
    address: str | None,
) -> None:
    """Train the knobs of a TRIAL of the sweep NAME at another scale, as a sweep of its own."""
    from gaptune.config import load_sweep_config
    from gaptune.engine.promote import promotion
    from gaptune.ledger import load
    from gaptune.results.table import end_report
    from gaptune.shipped import find

    results = results.resolve()
    record = load(sweep_folder(results, name))
    if trial not in record.trials:
        raise UserError(f"sweep {name!r} has no trial {trial}; it has 0 to {len(record.trials) - 1}")
    other = load_sweep_config(find(sweep_file, "sweeps"))
    new_name = new_name or f"{name}-{trial}-on-{sweep_file.stem}"
    told: dict[str, Any] = {"results": results, "now": time.time(), "command": typed()}
    told |= {"address": address, "tracking_uri": tracking_uri}
    plan = promotion(record, record.trials[trial], other, name=new_name, seeds=seeds, **told)
    console = make_console()
    console.print(
        f"{new_name}: trial {trial} of {name} on {sweep_file.stem}, {seeds} seeds, in {plan.folder}", **_PLAIN
    )
    promoted = run_plan(plan, console, results, tracking_uri, address)
    console.print(end_report(promoted))
    farewell(promoted, plan, console, results)


@click.command()
@click.argument("name", type=SweepName())
@results_option
@json_option
def status(name: str, results: Path, as_json: bool) -> None:
    """Show where the sweep NAME stands, running or not."""
    from gaptune.ledger import find_sweep, in_use, load
    from gaptune.results.table import end_report, progress, running_table

    folder = find_sweep(results, name)
    record = load(folder)
    running = in_use(folder)
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
    console.print(f"{name} {stands}: {record.header['command']}", **_PLAIN)
    console.print(running_table(record))
    console.print(end_report(record))


@click.command()
@click.argument("name", type=SweepName())
@results_option
@tracking_option
def sync(name: str, results: Path, tracking_uri: str | None) -> None:
    """Bring MLflow up to date with the ledger of the sweep NAME; also into an empty store."""
    from gaptune.engine.sweep import synchronize

    runs = synchronize(sweep_folder(results, name), results.resolve(), tracking_uri)
    click.echo(f"{name}: {runs} trials are in MLflow as in the ledger")


def run_plan(plan: Plan, console: Console, results: Path, tracking_uri: str | None, address: str | None) -> SweepRecord:
    """Runs a plan with its display."""
    from gaptune.display import Display
    from gaptune.engine.sweep import run

    with Display(console) as display:
        return run(plan, display=display, results=results, tracking_uri=tracking_uri, address=address, clock=time.time)


def farewell(record: SweepRecord, plan: Plan, console: Console, results: Path) -> None:
    """Where the results are and what to type next; or why it stopped, and what to type to go on.

    Exits with 128 and the signal after an interruption, and with 1 where the sweep stopped by itself or no trial is
    COMPLETE.
    """
    from rich.text import Text

    from gaptune.engine.signals import exit_code
    from gaptune.report import REPORT_FILE
    from gaptune.results.reasons import nothing_complete

    if record.paused is not None:
        console.print(f"{record.paused}; what is done is kept. To go on: {_again(plan.name)}", **_PLAIN)
        raise SystemExit(exit_code(record.paused))
    here = "" if results == Path("results").resolve() else f" --results {results}"
    lines = [
        f"results: {plan.folder}",
        f"report:  {plan.folder / REPORT_FILE}",
        f"next:    gaptune front {plan.name}{here}, gaptune show {plan.name} TRIAL{here}, gaptune ui{here}",
    ]
    console.print("\n".join(lines), **_PLAIN)
    if why := nothing_complete(record):
        console.print(Text(why), **_PLAIN)
        raise SystemExit(1)


def load_yaml(
    space_file: Path, sweep_file: Path | None, trials: int | None, concurrency: int | None, storage: str | None
) -> tuple[Space, SweepConfig]:
    """The two YAML files, with what the command line overrides.

    Raises:
        UserError: Something in them is wrong, or ``trials`` is more than a sweep can have, or less than a grid's.
    """
    from gaptune.config import load_sweep_config
    from gaptune.config.sweep import MOST_TRIALS
    from gaptune.shipped import find
    from gaptune.space import load_space

    space = load_space(find(space_file, "search_spaces"))
    config = load_sweep_config(find(sweep_file or Path("embedded.yaml"), "sweeps"))
    if trials is not None:
        if trials > MOST_TRIALS:
            raise UserError(f"--trials {trials:,}: a sweep has at most {MOST_TRIALS:,}")
        if space.grid and trials < (size := len(space.combinations())):
            raise UserError(f"the grid has {size} combinations and all are tried; --trials {trials} does not apply")
        config = config.model_copy(update={"search": config.search.model_copy(update={"trials": trials})})
    if concurrency is not None:
        resources = config.resources.model_copy(update={"concurrency": concurrency})
        config = config.model_copy(update={"resources": resources})
    return space, config if storage is None else config.model_copy(update={"storage": storage})


def _again(name: str) -> str:
    import shlex

    words = ["gaptune", *sys.argv[1:]]
    return shlex.join(
        words if "--name" in words or words[1] in ("confirm", "promote", "reproduce") else [*words, "--name", name]
    )


def make_console(stderr: bool = False) -> Console:
    """As wide as the terminal; 120 columns where there is none."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 120, stderr=stderr)


def _plan_text(plan: Plan, console: Console) -> str:
    from gaptune.engine.preview import describe_plan

    with console.capture() as captured:
        console.print(describe_plan(plan))
    return str(captured.get()).rstrip()
