"""Hyperparameter transfer: the params of a trial, trained with another sweep config."""

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
    """Plans a sweep with one candidate, trained with the full budget.

    The params that the search proposed are kept, except the seed. Everything else (model, data, epochs, batch size, and
    learning rates that were not searched) comes from the other sweep config.

    Args:
        record: The sweep that the trial belongs to.
        trial: The trial whose params are used.
        sweep: The sweep config for the new training.
        name: Name of the new sweep; an existing sweep is resumed.
        seeds: Number of paired seeds.
        results: Directory of all sweeps.
        now: Time in seconds since 1970.
        command: Command that the user typed, for the ledger.
        address: Address of the Ray cluster that runs the sweep; None for this machine.
        tracking_uri: MLflow's tracking URI; None for the SQLite store beside the sweeps.

    Raises:
        UserError: The params do not fit the sweep config.
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
