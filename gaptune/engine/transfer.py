"""A set of parameters that a sweep has found, trained at another scale."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from gaptune.config import EarlyStoppingConfig, SweepConfig
from gaptune.engine.plan import Plan, prepare
from gaptune.ledger import SweepRecord, TrialRecord
from gaptune.space.parse import parse_space


def transfer_plan(
    record: SweepRecord,
    trial: TrialRecord,
    sweep: SweepConfig,
    *,
    name: str,
    seeds: int,
    results: Path,
    now: float,
    command: str,
    address: str | None = None,
    tracking_uri: str | None = None,
) -> Plan:
    """Plans a sweep of one set of parameters, trained to the end.

    What the search decided goes over as it is, but for the seed; everything else (model, data, length, batch, and the
    learning rates where the search did not decide them) is the other sweep's.

    Args:
        record: The sweep that found it.
        trial: The trial that has it.
        sweep: How it is trained now.
        name: Of the new sweep; one that exists is gone on with.
        seeds: Paired seeds.
        results: Folder of all sweeps.
        now: Time in seconds since 1970.
        command: What a person typed, for the record.
        address: Of the Ray cluster that is to run it; None for this machine.
        tracking_uri: MLflow's; None for the SQLite store beside the sweeps.

    Raises:
        UserError: The parameters do not fit the sweep.
    """
    params = {parameter: value for parameter, value in trial.params.items() if parameter != "seed"}
    space = parse_space(record.header.space)
    space = replace(
        space,
        name=f"trial {trial.number} of {record.name}",
        parameters=tuple(parameter for parameter in space.parameters if parameter.name != "seed"),
        points_to_evaluate=(params,),
        grid=False,
    )
    search = sweep.search.model_copy(update={"sampler": "random", "candidates": 1, "seeds": seeds})
    sweep = sweep.model_copy(update={"search": search, "early_stopping": EarlyStoppingConfig()})
    told: dict[str, Any] = {"results": results, "now": now, "command": command}
    told |= {"address": address, "tracking_uri": tracking_uri}
    return prepare(space, sweep, name=name, **told)
