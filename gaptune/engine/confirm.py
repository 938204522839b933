"""The front of a sweep retrained on new seeds: another sweep, which evaluates the params of the front."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from gaptune.config import EarlyStoppingConfig, SweepConfig
from gaptune.engine.plan import Plan, prepare
from gaptune.errors import UserError
from gaptune.ledger import FILE_NAME, SweepRecord, load
from gaptune.ledger.names import fitting_name
from gaptune.results import summarize
from gaptune.space.parse import parse_space


def confirmation(
    record: SweepRecord,
    *,
    seeds: int,
    results: Path,
    now: float,
    command: str,
    concurrency: int | None = None,
    address: str | None = None,
    tracking_uri: str | None = None,
) -> Plan:
    """Plans the sweep that retrains each candidate on a front on new seeds.

    The metrics that put a candidate on the front are not used: they were selected for being high. All candidates get
    the same seeds, none of which the search has used, and are trained with the full budget.

    Args:
        record: The sweep that has the front.
        seeds: Seeds per candidate.
        results: Directory of all sweeps. The new sweep is called ``NAME-confirm-SEEDS``; if it exists, it is resumed
            with the candidates that have joined the front since.
        now: Time in seconds since 1970.
        command: Command that the user typed, for the ledger.
        concurrency: Number of parallel trials; None for the sweep's own.
        address: Address of the Ray cluster that runs the sweep; None for this machine.
        tracking_uri: MLflow's tracking URI; None for the SQLite store beside the sweeps.

    Raises:
        UserError: The front is empty.
    """
    name = fitting_name(f"{record.name}-confirm-{seeds}")
    members = [_without_seed(member.trial.params) for member in summarize(record).front]
    if not members:
        raise UserError(f"the front of {record.name!r} is empty: there is nothing to confirm")
    space = parse_space(record.header.space)
    known: list[dict[str, Any]] = []
    sweep = SweepConfig.model_validate(record.header.config)
    fresh = 1 + max(int(trial.config["seed"]) for trial in record.trials.values() if trial.config)
    if (results / name / FILE_NAME).exists():
        earlier = load(results / name).header
        known, fresh = list(earlier.space["points_to_evaluate"]), earlier.first_seed
    points = known + [member for index, member in enumerate(members) if member not in known + members[:index]]
    space = replace(
        space,
        name=f"the front of {record.name}",
        parameters=tuple(parameter for parameter in space.parameters if parameter.name != "seed"),
        points_to_evaluate=tuple(points),
        grid=False,
    )
    search = sweep.search.model_copy(update={"sampler": "random", "candidates": len(points), "seeds": seeds})
    resources = sweep.resources.model_copy(update={"concurrency": concurrency or sweep.resources.concurrency})
    changes = {"search": search, "early_stopping": EarlyStoppingConfig(), "seed": fresh, "resources": resources}
    sweep = sweep.model_copy(update=changes)
    told: dict[str, Any] = {"results": results, "now": now, "command": command}
    told |= {"address": address, "tracking_uri": tracking_uri}
    return prepare(space, sweep, name=name, more_points=True, **told)


def _without_seed(params: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in params.items() if name != "seed"}
