"""Commands that read finished or running sweeps: ls, front, show, compare, export."""

from __future__ import annotations

import json
import math
import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from gaptune.cli.options import results_option
from gaptune.cli.sweeps import make_console, sweep_folder
from gaptune.errors import UserError

if TYPE_CHECKING:
    from gaptune.ledger import SweepRecord, TrialRecord
    from gaptune.results import Candidate

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


class SweepName(click.ParamType[str]):
    """The name of a sweep; completed from the folder of all sweeps."""

    name = "sweep"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Names that exist and begin so."""
        results = Path(ctx.params.get("results") or "results")
        return [CompletionItem(path.parent.name) for path in sorted(results.glob(f"{incomplete}*/ledger.jsonl"))]


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
        except UserError as fault:
            rows.append({"name": path.parent.name, "state": f"unreadable: {fault}"})
            continue
        summary = summarize(record)
        state = "running" if in_use(path.parent) else "done" if record.done else "stopped"
        rows.append(
            {
                "name": record.name,
                "state": state,
                "space": record.header["space"]["name"],
                "data": record.header["data"]["name"],
                "complete": record.count(State.COMPLETE),
                "trials": len(record.trials),
                "front": len(summary.front),
                "hypervolume": _number(summary.hypervolume),
                "updated": time.strftime("%Y-%m-%d %H:%M", time.localtime(record.updated_at)),
            }
        )
    if as_json:
        click.echo(json.dumps(rows, indent=2))
    elif not rows:
        click.echo(f"no sweep in {results}; run one: gaptune sweep search_spaces/temp.yaml")
    else:
        _print_rows([{key: _rounded(value) for key, value in row.items()} for row in rows])


@click.command()
@click.argument("name", type=SweepName())
@click.option("--objective", "objectives", metavar="METRIC[:max|min]", multiple=True, help="Other objectives, 2 to 4.")
@click.option("--constraint", "constraints", metavar="'METRIC<=X'", multiple=True, help="Further constraints.")
@click.option("--pick", "preference", metavar="'METRIC within P%, then METRIC'", help="One member by preference.")
@click.option("--importance", is_flag=True, help="Also how much each knob matters (PED-ANOVA).")
@click.option("--correlation", is_flag=True, help="Also which metrics go together.")
@results_option
@json_option
def front(
    name: str,
    objectives: tuple[str, ...],
    constraints: tuple[str, ...],
    preference: str | None,
    importance: bool,
    correlation: bool,
    results: Path,
    as_json: bool,
) -> None:
    """Show the Pareto front of the sweep NAME, for its own objectives or others."""
    from dataclasses import asdict

    from gaptune.ledger import load
    from gaptune.results import summarize
    from gaptune.results.picks import knee, pick
    from gaptune.results.table import front_table
    from gaptune.results.view import view

    record = view(load(sweep_folder(results, name)), objectives, constraints)
    summary = summarize(record)
    bend = knee(record, summary.front)
    picked = pick(record, summary.front, preference) if preference else None
    extra: dict[str, list[dict[str, Any]]] = {}
    if importance:
        from gaptune.results.importance import importances

        extra["importance"] = [asdict(one) for one in importances(record)]
    if correlation:
        from gaptune.results.correlation import correlations

        extra["correlation"] = [asdict(one) for one in correlations(record)]
    if as_json:
        chosen = {"knee": bend and bend.trial.number, "picked": picked and picked.trial.number}
        members = [_member(record, member) for member in summary.front]
        found = {"front": members, "hypervolume": _number(summary.hypervolume), **chosen, **extra}
        click.echo(json.dumps(found, indent=2))
        return
    console = make_console()
    console.print(front_table(record, summary))
    if bend is not None:
        console.print(f"knee: trial {bend.trial.number} ({bend.trial.method}): gives up little, gains much")
    if picked is not None:
        console.print(f"picked: trial {picked.trial.number} ({picked.trial.method})")
    for title, rows in extra.items():
        console.print(f"\n{title}" if rows else f"\n{title}: too few completed trials to say")
        if rows:
            _print_rows([{key: _rounded(value) for key, value in row.items()} for row in rows])


@click.command()
@click.argument("name", type=SweepName())
@click.argument("trial", type=click.IntRange(min=0))
@results_option
@json_option
def show(name: str, trial: int, results: Path, as_json: bool) -> None:
    """Show one TRIAL of the sweep NAME: knobs, curves, scores, and the command that runs it again."""
    from gaptune.ledger import load

    folder = sweep_folder(results, name)
    record = load(folder)
    if trial not in record.trials:
        raise UserError(f"sweep {name!r} has no trial {trial}; it has 0 to {len(record.trials) - 1}")
    found = record.trials[trial]
    about = {
        "trial": trial,
        "method": found.method,
        "state": str(found.state),
        "reason": found.reason,
        "epochs": f"{found.epoch}/{found.epochs}",
        "knobs": found.knobs,
        "seed": found.config["seed"],
        "checkpoint": _checkpoint(folder, trial),
        "again": _again(found),
    }
    if as_json:
        reports = [{"epoch": report.epoch, **report.metrics} for report in found.reports]
        click.echo(json.dumps({**about, "reports": reports}, indent=2))
        return
    from gaptune.cli.options import print_pairs

    knobs = ", ".join(f"{knob} = {value}" for knob, value in found.knobs.items())
    print_pairs([(key, knobs if key == "knobs" else str(value)) for key, value in about.items() if value is not None])
    if found.reports:
        click.echo("")
        _print_rows(
            [
                {
                    "metric": metric,
                    "over training": _spark([report.metrics.get(metric, math.nan) for report in found.reports]),
                    "first": _rounded(found.reports[0].metrics.get(metric)),
                    "last": _rounded(value),
                }
                for metric, value in found.last.items()
            ]
        )


@click.command()
@click.argument("names", nargs=-1, required=True, type=SweepName())
@click.option("--picture", type=click.Path(path_type=Path, dir_okay=False), help="Draw the fronts into one PNG file.")
@results_option
@json_option
def compare(names: tuple[str, ...], picture: Path | None, results: Path, as_json: bool) -> None:
    """Compare sweeps with the same objectives: hypervolume in one box, and whose members survive together."""
    from gaptune.ledger import load
    from gaptune.results.compare import compare_sweeps, plot_fronts

    records = [load(sweep_folder(results, name)) for name in names]
    rows = compare_sweeps(records)
    if picture is not None:
        plot_fronts(records, picture)
    if as_json:
        click.echo(json.dumps(rows, indent=2))
    else:
        _print_rows([{key: _rounded(value) for key, value in row.items()} for row in rows])


@click.command()
@click.argument("name", type=SweepName())
@click.option("--to", "path", required=True, type=click.Path(path_type=Path, dir_okay=False), help="*.parquet or *.csv")
@results_option
def export(name: str, path: Path, results: Path) -> None:
    """Write every report of the sweep NAME as one table."""
    from gaptune.ledger import load
    from gaptune.results.export import frame, write_parquet

    if path.suffix not in (".parquet", ".csv"):
        raise UserError(f"--to {path}: expected a name that ends with .parquet or .csv")
    record = load(sweep_folder(results, name))
    if path.suffix == ".csv":
        frame(record).to_csv(path, index=False)
    else:
        write_parquet(record, path)
    click.echo(str(path))


def _member(record: SweepRecord, member: Candidate) -> dict[str, Any]:
    metrics = {metric: _number(member.mean(metric)) for metric in member.trial.last}
    return {
        "trial": member.trial.number,
        "method": member.trial.method,
        "seeds": len(member.trials),
        "knobs": member.trial.knobs,
        "metrics": metrics,
    }


def _checkpoint(folder: Path, trial: int) -> str | None:
    kept = folder / "trials" / f"{trial:04d}"
    return str(kept) if kept.is_dir() and any(kept.iterdir()) else None


def _again(trial: TrialRecord) -> str:
    """``gaptune train`` with everything in which the trial differs from the sweep that the command starts from."""
    from gaptune.config import flatten, load_sweep_config
    from gaptune.shipped import find

    plain = flatten(load_sweep_config(find(Path("embedded.yaml"), "sweeps")).trial({}))
    words = ["gaptune", "train"]
    for name, value in trial.config.items():
        if name in plain and value != plain[name] and name != "device":
            words += ["--set", f"{name}={'null' if value is None else value}"]
    return shlex.join(words)


def _spark(values: list[float], bars: str = "▁▂▃▄▅▆▇█") -> str:
    known = [value for value in values if math.isfinite(value)]
    if not known:
        return ""
    low, high = min(known), max(known)
    scale = (len(bars) - 1) / (high - low) if high > low else 0.0
    return "".join(bars[round((value - low) * scale)] if math.isfinite(value) else " " for value in values[:60])


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _rounded(value: Any) -> Any:
    return f"{value:.4g}" if isinstance(value, float) else value


def _print_rows(rows: list[dict[str, Any]]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for name in max(rows, key=len):
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*("·" if value is None else str(value) for value in row.values()))
    make_console().print(table)
