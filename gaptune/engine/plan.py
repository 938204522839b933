"""Plans a sweep: checks its search space and config, and writes the header of its ledger.

A sweep's directory holds ``ledger.jsonl`` (the record of everything), ``space.yaml`` and ``sweep.yaml`` (as resolved),
``study.journal`` (Optuna's mirror), ``trials/NNNN`` (checkpoints; for ended trials only those that are needed),
``front.png``, ``results.parquet``, ``report.html``, ``mlflow.json`` (ids of the runs), and ``ray`` (Ray's own files).
"""

from __future__ import annotations

import math
import platform
import uuid
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from gaptune.config import SweepConfig, flatten
from gaptune.data import Store
from gaptune.engine.lanes import Lanes, with_lanes
from gaptune.engine.placement import Gpus
from gaptune.engine.preflight import Sizes, preflight
from gaptune.ledger import (
    FILE_NAME,
    SCHEMA,
    Event,
    SweepHeader,
    load,
    parse_events,
    replay,
)
from gaptune.ledger.backup import newer_ledger
from gaptune.ledger.file import check_readable
from gaptune.ledger.names import check_name
from gaptune.ledger.opening import check_new, trial_numbers
from gaptune.results import candidates
from gaptune.search.identity import check_same, num_candidates
from gaptune.space.model import Space
from gaptune.storage.folder import Folder
from gaptune.tracking import (
    check_store,
)

_Known = tuple[dict[str, Any], list[float], dict[str, float]]
"""A configuration that another sweep has tried, its objectives, and its broken constraints."""


@dataclass(frozen=True)
class Plan:
    """A sweep that has been checked and can start.

    Attributes:
        name: Name of the sweep.
        folder: Directory of the sweep.
        space: The search space.
        sweep: The sweep config, with the options of the command line, and the number of GPUs in place of ``auto``.
        num_candidates: Number of candidates.
        header: Content of the ledger's first line.
        sizes: Sizes of the model.
        gpus: GPUs of each trial, and why.
        lanes: Number of trials that a worker trains together, and why.
        side_by_side: Number of trials that this machine runs in parallel; None on a cluster.
        warnings: Warnings, one sentence each.
        mlflow: Why MLflow is unreachable now; empty if it is reachable.
        earlier: Events of the ledger of an existing sweep.
        place: Remote directory of the sweep, if it has a storage.
    """

    name: str
    folder: Path
    space: Space
    sweep: SweepConfig
    num_candidates: int
    header: SweepHeader
    sizes: Sizes
    gpus: Gpus
    lanes: Lanes
    side_by_side: int | None
    warnings: tuple[str, ...]
    mlflow: str
    earlier: list[Event]
    place: Folder | None = None


def prepare(
    space: Space,
    sweep: SweepConfig,
    *,
    name: str,
    results: Path,
    now: float,
    command: str,
    warm_start: str | None = None,
    more_points: bool = False,
    address: str | None = None,
    tracking_uri: str | None = None,
) -> Plan:
    """Checks everything that can be checked before a trial starts. Writes nothing but cached data.

    Args:
        space: The search space.
        sweep: The sweep config.
        name: Name of the sweep; an existing sweep is resumed.
        results: Directory of all sweeps.
        now: Time in seconds since 1970.
        command: Command that the user typed, for the ledger.
        warm_start: Name of another sweep whose completed trials the sampler learns from.
        more_points: Whether an existing sweep may get further ``points_to_evaluate``.
        address: Address of the Ray cluster that runs the sweep; None for this machine, whose devices are checked.
        tracking_uri: MLflow's tracking URI; None for the SQLite store beside the sweeps.

    Raises:
        UserError: Something in space, sweep, data or model cannot work, or the name belongs to another sweep.
    """
    folder = results / check_name(name)
    findings = preflight(space, sweep, folder, address=address)
    known = _known(results / warm_start, sweep) if warm_start else []
    header = _header(name, space, sweep, findings.store, now=now, known=known, command=command)
    store_state = check_store(tracking_uri, results)
    place = Folder(f"{sweep.storage.rstrip('/')}/{name}") if sweep.storage else None
    earlier = _earlier(folder, place)
    if earlier:
        there = replay(earlier).header
        check_same(there, header, folder, more_points=more_points)
        header = there
    else:
        check_new(folder, trial_numbers(folder, place))
    return Plan(
        name,
        folder,
        space,
        with_lanes(with_gpus(sweep, findings.gpus), findings.lanes),
        num_candidates(space, sweep),
        header,
        findings.sizes,
        findings.gpus,
        findings.lanes,
        findings.side_by_side,
        findings.warnings,
        "" if store_state.answers else store_state.why,
        earlier,
        place,
    )


def with_gpus(sweep: SweepConfig, gpus: Gpus) -> SweepConfig:
    """A sweep config with a number of GPUs for each trial; the ledger keeps what the user wrote."""
    return sweep.model_copy(update={"resources": sweep.resources.model_copy(update={"gpu": gpus.number})})


def _header(
    name: str, space: Space, sweep: SweepConfig, store: Store, *, now: float, known: list[_Known], command: str
) -> SweepHeader:
    """The first event of a new sweep."""
    data = {
        "store": store.meta.name if sweep.data.mix else sweep.data.store,
        "name": store.meta.name,
        "hash": store.meta.content_hash,
        "splits": {split: meta.images for split, meta in store.meta.splits.items()},
    }
    event: Event = {
        "event": "sweep",
        "at": now,
        "schema": SCHEMA,
        "id": uuid.uuid4().hex,
        "name": name,
        "space": space.to_dict(),
        "varied": list(space.varied()),
        "config": sweep.model_dump(mode="json"),
        "base": flatten(sweep.trial({})),
        "objectives": [asdict(objective) for objective in sweep.wanted],
        "data": data,
        "weights": _weights(sweep),
        "known": known,
        "command": command,
        "versions": versions(),
    }
    return SweepHeader.parse(event)


def _earlier(folder: Path, place: Folder | None) -> list[Event]:
    """The events of a sweep that exists, from this machine or from its storage; none for a new one."""
    content = newer_ledger(place, folder) if place else None
    if content is None:
        content = (folder / FILE_NAME).read_bytes() if (folder / FILE_NAME).exists() else b""
    earlier, damages = parse_events(content)
    check_readable(earlier, damages, folder / FILE_NAME)
    return earlier


def versions() -> dict[str, str]:
    """Versions of the packages that a result depends on."""
    names = ("gaptune", "torch", "open_clip_torch", "ray", "optuna", "mlflow", "numpy")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}


def _weights(sweep: SweepConfig) -> str | None:
    """Hash of the weights from which training starts; None for random weights."""
    if not sweep.model.pretrained:
        return None
    from gaptune.trial.pretrained import weights_hash  # torch, which takes seconds

    return weights_hash(sweep.model)


def _known(folder: Path, sweep: SweepConfig) -> list[_Known]:
    """Configurations, objectives and constraint violations of another sweep's candidates, if it measured them all."""
    found = [
        (
            candidate.trial.config,
            [candidate.mean(objective.metric) for objective in sweep.objectives],
            {bound.metric: bound.violation(candidate.mean(bound.metric)) for bound in sweep.constraints},
        )
        for candidate in candidates(load(folder))
    ]
    return [one for one in found if not any(map(math.isnan, (*one[1], *one[2].values())))]
