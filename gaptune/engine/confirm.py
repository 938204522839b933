"""The front of a sweep run again on fresh seeds: a sweep of its own, whose points are the front's parameters."""

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
    """Plans the sweep that trains each member of a front on some fresh seeds.

    The scores that put a member on the front are left out on purpose: they were chosen for being high. All members
    get the same seeds, none of which the search has used, and are trained to the end.

    Args:
        record: The sweep whose front it is.
        seeds: Seeds per member.
        results: Folder of all sweeps; the new one is ``NAME-confirm-SEEDS``, and is gone on with where it exists, with
            those members added that have come to the front since.
        now: Time in seconds since 1970.
        command: What a person typed, for the record.
        concurrency: Trials side by side; None for the sweep's own.
        address: Of the Ray cluster that is to run it; None for this machine.
        tracking_uri: MLflow's; None for the SQLite store beside the sweeps.

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
