"""How commands start a sweep, and what they print when it ends."""

from __future__ import annotations

import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from gaptune.errors import UserError
from gaptune.storage.paths import check_folder

if TYPE_CHECKING:
    from gaptune.config import SweepConfig
    from gaptune.console.terminal import Console
    from gaptune.engine.plan import Plan
    from gaptune.ledger import SweepRecord
    from gaptune.space.model import Space


def load_yaml(
    space_file: Path, config_file: Path | None, candidates: int | None, concurrency: int | None, storage: str | None
) -> tuple[Space, SweepConfig]:
    """The two YAML files, with the overrides of the command line.

    Raises:
        UserError: A file is invalid, or ``candidates`` is larger than a sweep allows, or smaller than the grid.
    """
    from gaptune.config import load_sweep_config
    from gaptune.config.sweep import MOST_CANDIDATES
    from gaptune.space.parse import load_space
    from gaptune.storage.bundled import find
    from gaptune.storage.folder import as_url

    space = load_space(find(space_file, "search_spaces"))
    config = load_sweep_config(find(config_file or Path("embedded.yaml"), "sweeps"))
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


def writable_results(results: Path) -> Path:
    """The results directory as an absolute path, in which a sweep can be written.

    Raises:
        UserError: It cannot be made, or files cannot be written to it.
    """
    results = results.resolve()
    check_folder(results, "--results")
    return results


def plan_settings(results: Path, tracking_uri: str | None, address: str | None) -> dict[str, Any]:
    """The arguments that every plan of a sweep takes from the command line."""
    return {
        "results": results,
        "now": time.time(),
        "command": shlex.join(["gaptune", *sys.argv[1:]]),
        "tracking_uri": tracking_uri,
        "address": address,
    }


def run_plan(plan: Plan, console: Console, results: Path, tracking_uri: str | None, address: str | None) -> SweepRecord:
    """Runs a plan, and shows its progress."""
    from gaptune.console.live import Display
    from gaptune.engine.session import run

    with Display(console) as display:
        return run(plan, display=display, results=results, tracking_uri=tracking_uri, address=address, clock=time.time)


def print_next_steps(record: SweepRecord, plan: Plan, console: Console, results: Path) -> None:
    """Prints where the results are and useful commands; or why the sweep stopped, and how to resume it.

    Exits with 128 plus the signal after an interruption, and with 1 if the sweep stopped by itself or no trial is
    COMPLETE.
    """
    from gaptune.engine.signals import exit_code
    from gaptune.report import REPORT_FILE
    from gaptune.results.failures import nothing_complete

    if record.paused is not None:
        console.say(f"{record.paused}. Finished trials are kept. To resume: {resume_command(plan.name)}")
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


def resume_command(name: str) -> str:
    """The current command, quoted for a shell, with the name of its sweep and the options that the environment gave.

    Args:
        name: Name of the sweep.
    """
    context, added = click.get_current_context(), []
    for parameter in context.command.params:
        source = context.get_parameter_source(str(parameter.name))
        if source is ParameterSource.ENVIRONMENT:
            added += [parameter.opts[0], str(context.params[str(parameter.name)])]
        elif source is ParameterSource.DEFAULT and "--name" in parameter.opts:
            added += ["--name", name]
    words = ["gaptune", *sys.argv[1:]]
    return shlex.join([*words[:2], *added, *words[2:]])  # before the rest, which may contain "--"


def check_trial(record: SweepRecord, trial: int) -> None:
    """Checks that a sweep has a trial of this number.

    Raises:
        UserError: It has none.
    """
    if trial not in record.trials:
        known = f"it has {min(record.trials)} to {max(record.trials)}" if record.trials else "it has none yet"
        raise UserError(f"sweep {record.name!r} has no trial {trial}; {known}")
