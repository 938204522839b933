"""Commands that read finished or running sweeps: ls, front, show, compare, export."""

from __future__ import annotations

import math
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gaptune.cli.options import NewFile, SweepName, TrialNumber, json_option, results_option
from gaptune.cli.sweeps import check_trial
from gaptune.console import make_console
from gaptune.console.json_output import print_json
from gaptune.console.plain import print_pairs
from gaptune.errors import UserError
from gaptune.ledger import find_sweep
from gaptune.storage.atomic import written_whole
from gaptune.storage.checkpoint_files import newest_weights
from gaptune.text.output import echo

if TYPE_CHECKING:
    from gaptune.ledger import SweepRecord
    from gaptune.results import Candidate

objective_option = click.option(
    "--objective",
    "objectives",
    metavar="METRIC[:max|min]",
    multiple=True,
    help="Another objective instead of the sweep's own; give it two to four times.",
)
constraint_option = click.option(
    "--constraint",
    "constraints",
    metavar="'METRIC<=X'",
    multiple=True,
    help="A further constraint, <= or >=; may be given several times.",
)
plot_option = click.option(
    "--plot",
    metavar="FILE",
    type=NewFile(".png", ".svg", ".pdf"),
    help="Draw it into a file: *.png, *.svg or *.pdf.",
)


@click.command("ls")
@results_option
@json_option
def list_sweeps(results: Path, as_json: bool) -> None:
    """List the sweeps in the results folder, newest first."""
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
        echo(f"no sweep in {results}; run one: gaptune sweep search_spaces/temp.yaml")
    else:
        from gaptune.console.tables import print_records

        print_records(rows)


@click.command()
@click.argument("name", type=SweepName())
@objective_option
@constraint_option
@click.option("--pick", "preference", metavar="'METRIC within P%, then METRIC'", help="One member by preference.")
@click.option("--importance", is_flag=True, help="Also how much each parameter matters (PED-ANOVA).")
@click.option("--fanova", is_flag=True, help="Also how much each parameter matters, by fANOVA instead.")
@click.option("--method", help="Also how much each parameter matters among the trials of one method.")
@click.option("--correlation", is_flag=True, help="Also which metrics go together.")
@click.option("--unfinished", is_flag=True, help="Also which trials failed or were stopped, and why.")
@plot_option
@results_option
@json_option
def front(
    name: str,
    objectives: tuple[str, ...],
    constraints: tuple[str, ...],
    preference: str | None,
    importance: bool,
    fanova: bool,
    method: str | None,
    correlation: bool,
    unfinished: bool,
    plot: Path | None,
    results: Path,
    as_json: bool,
) -> None:
    """Show the Pareto front of the sweep NAME, for its own objectives or others."""
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
    reasons = {"hypervolume": summary.unknown, "front": None if summary.front else summary.unknown}
    unknown: dict[str, Any] = {what: asdict(reason) for what, reason in reasons.items() if reason is not None}
    if not bend:
        unknown["knee"] = asdict(bend if summary.front or summary.unknown is None else summary.unknown)
    extra: dict[str, list[dict[str, Any]]] = {}
    if importance or fanova or method:
        from gaptune.results.importance import importances

        _check_method(record, method)
        found = importances(record, "fanova" if fanova else "ped_anova", method)
        extra["importance"] = [asdict(one) for one in found]
        if found.unknown:
            unknown["importance"] = {objective: asdict(reason) for objective, reason in found.unknown.items()}
    if correlation:
        from gaptune.results.correlation import correlations

        extra["correlation"] = [asdict(one) for one in correlations(record)]
    if unfinished:
        from gaptune.results.failures import unfinished as without_outcome

        extra["unfinished"] = [asdict(one) for one in without_outcome(record)]
    if plot is not None:
        from gaptune.results.plots.front import plot_front

        with written_whole(plot) as place:
            plot_front(record, summary, place)
    if as_json:
        chosen = {"knee": bend.trial.number if bend else None, "picked": picked and picked.trial.number}
        members = [_member(member) for member in summary.front]
        print_json({"front": members, "hypervolume": summary.hypervolume, **chosen, "unknown": unknown, **extra})
        return
    console = make_console()
    console.print(front_table(record, summary))
    if bend:
        console.say(f"knee: trial {bend.trial.number} ({bend.trial.method}): gives up little, gains much")
    elif summary.front:
        console.say(f"the front has no knee: {bend}")
    if picked is not None:
        console.say(f"picked: trial {picked.trial.number} ({picked.trial.method})")
    for title, rows in extra.items():
        nothing = ": no trial has failed or was stopped" if title == "unfinished" and not rows else ""
        console.say(f"\n{title}{nothing}")
        _print_known(rows)
        missing = unknown.get("importance", {}) if title == "importance" else _pairs_without(rows)
        for what, reason in missing.items():
            console.say(f"{what}: not known, because {reason['text']}")


@click.command()
@click.argument("name", type=SweepName())
@click.argument("trial", type=TrialNumber())
@results_option
@json_option
def show(name: str, trial: int, results: Path, as_json: bool) -> None:
    """Show one TRIAL of the sweep NAME: parameters, curves, scores, and the command that runs it again."""
    from gaptune.results.read import read_sweep
    from gaptune.results.rerun import train_words

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
        "again": " ".join(train_words(found)),
    }
    if as_json:
        reports = [{"epoch": report.epoch, **report.metrics} for report in found.reports]
        print_json({**about, "reports": reports})
        return
    params = ", ".join(f"{parameter} = {value}" for parameter, value in found.params.items())
    print_pairs([(key, params if key == "params" else str(value)) for key, value in about.items() if value is not None])
    if found.reports:
        from gaptune.console.tables import print_records, spark

        echo("")
        print_records(
            [
                {
                    "metric": metric,
                    "over training": spark([report.metrics.get(metric, math.nan) for report in found.reports]),
                    "first": found.reports[0].metrics.get(metric),
                    "last": value,
                }
                for metric, value in found.last.items()
            ]
        )


@click.command()
@click.argument("names", nargs=-1, required=True, type=SweepName())
@objective_option
@constraint_option
@click.option("--repeats", is_flag=True, help="The sweeps repeat each other: draw what half of them attain.")
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
    """Compare sweeps: their hypervolume in one box, and whose members are on the front of all together."""
    from gaptune.results.compare import compare_sweeps
    from gaptune.results.plots.comparison import plot_attainment, plot_fronts
    from gaptune.results.read import read_sweep
    from gaptune.results.view import view

    if repeats and plot is None:
        raise UserError("--repeats says how to draw; give --plot FILE with it")
    records = [view(read_sweep(results, name), objectives, constraints) for name in names]
    rows = [asdict(one) for one in compare_sweeps(records)]
    if plot is not None:
        with written_whole(plot) as place:
            (plot_attainment if repeats else plot_fronts)(records, place)
    if as_json:
        print_json(rows)
        return
    _print_known([{**row, "unknown": None} for row in rows])
    for row in rows:
        if row["unknown"] is not None:
            echo(f"{row['name']} has no front: {row['unknown']['text']}")


@click.command()
@click.argument("name", type=SweepName())
@click.option(
    "--to", "path", metavar="FILE", required=True, type=NewFile(".parquet", ".csv"), help="*.parquet or *.csv"
)
@results_option
def export(name: str, path: Path, results: Path) -> None:
    """Write every report of the sweep NAME as one table."""
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
    """Whether a trial's candidate keeps the sweep's constraints, and if not, which it breaks; None if not complete."""
    from gaptune.results.front import completed

    found = next((one for one in completed(record) if record.trials[trial] in one.trials), None)
    if found is None or not record.constraints:
        return None
    breaks = [str(one) for one in found.broken]
    return f"breaks {', '.join(breaks)}" if breaks else "kept"


def _check_method(record: SweepRecord, method: str | None) -> None:
    """That some trial is of a method; whether they are enough is said with the importances."""
    from gaptune.errors import did_you_mean

    known = {trial.method for trial in record.trials.values()}
    if method is not None and method not in known:
        raise UserError(f"{record.name!r} has no trial with method {method!r}{did_you_mean(method, known)}")


def _member(member: Candidate) -> dict[str, Any]:
    return {
        "trial": member.trial.number,
        "method": member.trial.method,
        "seeds": len(member.trials),
        "params": member.trial.params,
        "metrics": {metric: member.mean(metric) for metric in member.trial.last},
    }


def _checkpoint(folder: Path, trial: int) -> str | None:
    kept = folder / "trials" / f"{trial:04d}"
    return str(kept) if newest_weights(path.name for path in kept.glob("*")) else None


def _print_known(rows: list[dict[str, Any]]) -> None:
    """Rows without those that are not known, and without the column that says why."""
    from gaptune.console.tables import print_records

    known = [row for row in rows if row.get("unknown") is None]
    print_records([{name: value for name, value in row.items() if name != "unknown"} for row in known])


def _pairs_without(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The pairs of metrics whose correlation is not known, with the reason."""
    return {f"{row['first']} and {row['second']}": row["unknown"] for row in rows if row.get("unknown") is not None}
