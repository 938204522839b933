"""Commands that read sweeps, finished or running: ls, status, front, show, compare, export."""

from __future__ import annotations

import math
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gaptune.cli.options import (
    NewFile,
    SweepName,
    TrialNumber,
    constraint_option,
    json_option,
    objective_option,
    plot_option,
    results_option,
)
from gaptune.cli.session import check_trial
from gaptune.console import make_console
from gaptune.console.json_output import print_json
from gaptune.console.plain import print_pairs
from gaptune.errors import UserError
from gaptune.ledger import find_sweep
from gaptune.storage.atomic import written_whole
from gaptune.text.output import echo

if TYPE_CHECKING:
    from gaptune.ledger import SweepRecord
    from gaptune.ledger.candidate import Candidate


@click.command("ls", epilog="Example: gaptune ls --json")
@results_option
@json_option
def list_sweeps(results: Path, as_json: bool) -> None:
    """List the sweeps in the results directory, newest first."""
    from gaptune.ledger import State, in_use, load
    from gaptune.results import summarize

    rows: list[dict[str, Any]] = []
    for path in sorted(results.glob("*/ledger.jsonl"), key=lambda path: -path.stat().st_mtime):
        try:
            record = load(path.parent)
        except UserError as error:
            rows.append({"name": path.parent.name, "state": f"unreadable: {error}"})
            continue
        summary = summarize(record)
        state = "running" if in_use(path.parent) else "done" if record.done else "stopped"
        rows.append(
            {
                "name": path.parent.name,
                "state": state,
                "space": record.header.space_name,
                "data": record.header.data.name,
                "complete": record.count(State.COMPLETE),
                "trials": len(record.trials),
                "front": len(summary.front),
                "hypervolume": summary.hypervolume,
                "updated": time.strftime("%Y-%m-%d %H:%M", time.localtime(record.updated_at)),
            }
        )
    if as_json:
        print_json(rows)
    elif not rows:
        echo(f"no sweep in {results}; run one: gaptune sweep temp")
    else:
        from gaptune.console.tables import records_table

        make_console().print(records_table(rows))


@click.command(epilog="Example: gaptune status example")
@click.argument("name", type=SweepName())
@results_option
@json_option
def status(name: str, results: Path, as_json: bool) -> None:
    """Show the progress of the sweep NAME, running or not."""
    from gaptune.console.tables import end_report, nodes_line, running_table
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
        state = "is running"
    elif record.done:
        state = "is done"
    else:
        state = f"stopped ({record.paused or 'its driver was killed'}); run the command again to resume it"
    console.say(f"{name} {state}: {record.header.command}")
    if running and (nodes := nodes_line(record)):
        console.say(nodes)
    console.print(running_table(record))
    console.print(end_report(record))


@click.command(epilog="Example: gaptune front example --pick 'retrieval/mean_r1 within 10%, then geometry/gap'")
@click.argument("name", type=SweepName())
@objective_option
@constraint_option
@click.option(
    "--pick",
    "preference",
    metavar="'METRIC within P%, then METRIC'",
    help="Also select one candidate of the front by a preference.",
)
@plot_option
@results_option
@json_option
def front(
    name: str,
    objectives: tuple[str, ...],
    constraints: tuple[str, ...],
    preference: str | None,
    plot: Path | None,
    results: Path,
    as_json: bool,
) -> None:
    """Show the Pareto front of the sweep NAME.

    Uses the objectives of the sweep, or others.
    """
    from gaptune.console.tables import front_table
    from gaptune.results import summarize
    from gaptune.results.read import read_sweep
    from gaptune.results.selection import knee, pick
    from gaptune.results.view import view

    record = view(read_sweep(results, name), objectives, constraints)
    summary = summarize(record)
    bend = knee(record, summary.front)
    if preference is not None and not summary.front:
        raise UserError(f"there is nothing to pick: {name!r} has no front: {summary.unknown}")
    picked = None if preference is None else pick(record, summary.front, preference)
    if plot is not None:
        from gaptune.results.plots.front import plot_front

        with written_whole(plot) as place:
            plot_front(record, summary, place)
    if as_json:
        reasons = {
            "hypervolume": summary.unknown,
            "front": None if summary.front else summary.unknown,
            "knee": None if bend else bend if summary.front or summary.unknown is None else summary.unknown,
        }
        print_json(
            {
                "front": [_member(member) for member in summary.front],
                "hypervolume": summary.hypervolume,
                "knee": bend.trial.number if bend else None,
                "picked": picked and picked.trial.number,
                "unknown": {what: asdict(reason) for what, reason in reasons.items() if reason is not None},
            }
        )
        return
    console = make_console()
    console.print(front_table(record, summary))
    if bend:
        trade_off = "best trade-off (largest sum of normalized objectives)"
        console.say(f"knee: trial {bend.trial.number} ({bend.trial.method}): {trade_off}")
    elif summary.front:
        console.say(f"the front has no knee: {bend}")
    if picked is not None:
        console.say(f"picked: trial {picked.trial.number} ({picked.trial.method})")


@click.command(epilog="Example: gaptune show example 12")
@click.argument("name", type=SweepName())
@click.argument("trial", type=TrialNumber())
@results_option
@json_option
def show(name: str, trial: int, results: Path, as_json: bool) -> None:
    """Show one TRIAL of the sweep NAME.

    Prints its parameters, its curves, its metrics, and the command that trains it again.
    """
    from gaptune.results.read import read_sweep
    from gaptune.results.rerun import rerun_command

    record = read_sweep(results, name)
    check_trial(record, trial)
    found = record.trials[trial]
    about = {
        "trial": trial,
        "method": found.method,
        "state": str(found.state),
        "constraints": _constraints(record, trial),
        "reason": found.reason,
        "epochs": f"{found.epoch}/{found.epochs}",
        "params": found.params,
        "seed": found.config["seed"],
        "checkpoint": _checkpoint(find_sweep(results, name), trial),
        "rerun": rerun_command(found),
    }
    if as_json:
        reports = [{"epoch": report.epoch, **report.metrics} for report in found.reports]
        print_json({**about, "reports": reports})
        return
    from gaptune.console.tables import records_table, short, spark

    params = ", ".join(f"{parameter} = {short(value)}" for parameter, value in found.params.items())
    print_pairs([(key, params if key == "params" else str(value)) for key, value in about.items() if value is not None])
    if found.reports:
        echo("")
        rows = [
            {
                "metric": metric,
                "over training": spark([report.metrics.get(metric, math.nan) for report in found.reports]),
                "first": found.reports[0].metrics.get(metric),
                "last": value,
            }
            for metric, value in found.last.items()
        ]
        make_console().print(records_table(rows))


@click.command(epilog="Example: gaptune compare first second --plot fronts.png")
@click.argument("names", metavar="NAME...", nargs=-1, required=True, type=SweepName())
@objective_option
@constraint_option
@click.option("--repeats", is_flag=True, help="Treat the sweeps as repetitions and plot the median attainment surface.")
@plot_option
@results_option
@json_option
def compare(
    names: tuple[str, ...],
    objectives: tuple[str, ...],
    constraints: tuple[str, ...],
    repeats: bool,
    plot: Path | None,
    results: Path,
    as_json: bool,
) -> None:
    """Compare the fronts of several sweeps.

    Prints the hypervolume with a common reference point, and the contribution of each sweep to the joint front.
    """
    from gaptune.console.tables import records_table
    from gaptune.results.compare import compare_sweeps
    from gaptune.results.plots.comparison import plot_attainment, plot_fronts
    from gaptune.results.read import read_sweep
    from gaptune.results.view import view

    if repeats and plot is None:
        raise UserError("--repeats requires --plot FILE")
    records = [view(read_sweep(results, name), objectives, constraints) for name in names]
    rows = [asdict(one) for one in compare_sweeps(records)]
    if plot is not None:
        with written_whole(plot) as place:
            (plot_attainment if repeats else plot_fronts)(records, place)
    if as_json:
        print_json(rows)
        return
    make_console().print(records_table([{key: row[key] for key in row if key != "unknown"} for row in rows]))
    for row in rows:
        if row["unknown"] is not None:
            echo(f"{row['name']} has no front: {row['unknown']['text']}")


@click.command(epilog="Example: gaptune export example --to example.parquet")
@click.argument("name", type=SweepName())
@click.option(
    "--to",
    "path",
    metavar="FILE",
    required=True,
    type=NewFile(".parquet", ".csv"),
    help="File to write: *.parquet or *.csv.",
)
@results_option
def export(name: str, path: Path, results: Path) -> None:
    """Write all reports of the sweep NAME as one table.

    The table has a row per trial and report.
    """
    from gaptune.results.export import frame, write_parquet
    from gaptune.results.read import read_sweep

    record = read_sweep(results, name)
    with written_whole(path) as place:
        if path.suffix.lower() == ".csv":
            frame(record).to_csv(place, index=False)
        else:
            write_parquet(record, place)
    echo(str(path))


def _constraints(record: SweepRecord, trial: int) -> str | None:
    """Whether the candidate of a trial meets the constraints; None without constraints, or if it is not complete."""
    from gaptune.results.front import completed

    found = next((one for one in completed(record) if record.trials[trial] in one.trials), None)
    if found is None or not record.constraints:
        return None
    breaks = [str(one) for one in found.broken]
    return f"infeasible: breaks {', '.join(breaks)}" if breaks else "met"


def _member(member: Candidate) -> dict[str, Any]:
    return {
        "trial": member.trial.number,
        "method": member.trial.method,
        "seeds": len(member.trials),
        "params": member.trial.params,
        "metrics": {metric: member.mean(metric) for metric in member.trial.last},
    }


def _checkpoint(folder: Path, trial: int) -> str | None:
    from gaptune.storage.checkpoint_files import newest_weights

    kept = folder / "trials" / f"{trial:04d}"
    return str(kept) if newest_weights(path.name for path in kept.glob("*")) else None
