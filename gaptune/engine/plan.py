"""A sweep from its two YAML files to its results: prepared, run, closed.

What is in a sweep's folder: ``ledger.jsonl`` (the truth), ``space.yaml`` and ``sweep.yaml`` (as resolved),
``study.journal`` (Optuna's mirror), ``trials/NNNN`` (checkpoints; of ended trials what is needed), ``front.png``,
``results.parquet``, ``report.html``, ``mlflow.json`` (which run is whose), and ``ray`` (Ray's own files).
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
        name: Its name.
        folder: Where it is kept.
        space: What may be tried.
        sweep: How trials are run, with what the command line overrides.
        num_candidates: Trials in all.
        header: What the ledger's first line says.
        sizes: Of the model.
        side_by_side: Trials that this machine runs at once; None on a cluster.
        warnings: What will work, but hardly as it was meant: a sentence each.
        mlflow: Why MLflow does not answer now; empty when it does.
        earlier: Events of the ledger when the sweep is there already.
        place: The sweep's folder in its storage, if it has one.
    """

    name: str
    folder: Path
    space: Space
    sweep: SweepConfig
    num_candidates: int
    header: SweepHeader
    sizes: Sizes
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
        sweep: How trials are run.
        name: The sweep's name; one that exists is gone on with.
        results: Folder of all sweeps.
        now: Time in seconds since 1970.
        command: What a person typed, for the record.
        warm_start: Name of another sweep whose completed trials the sampler is told of.
        more_points: Whether a sweep that exists may be given further points.
        address: Of the Ray cluster that is to run it; None for this machine, whose devices are looked at.
        tracking_uri: MLflow's; None for the SQLite store beside the sweeps.

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
        sweep,
        num_candidates(space, sweep),
        header,
        findings.sizes,
        findings.side_by_side,
        findings.warnings,
        "" if store_state.answers else store_state.why,
        earlier,
        place,
    )


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
    """Versions of what a result depends on."""
    names = ("gaptune", "torch", "open_clip_torch", "ray", "optuna", "mlflow", "numpy")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}


def _weights(sweep: SweepConfig) -> str | None:
    """What the weights are that training starts from, by content; None for random ones."""
    if not sweep.model.pretrained:
        return None
    from gaptune.trial.pretrained import weights_hash  # torch, which takes seconds

    return weights_hash(sweep.model)


def _known(folder: Path, sweep: SweepConfig) -> list[_Known]:
    """Configurations, objectives and broken constraints of another sweep's candidates, where it measured them."""
    found = [
        (
            candidate.trial.config,
            [candidate.mean(objective.metric) for objective in sweep.objectives],
            {bound.metric: bound.violation(candidate.mean(bound.metric)) for bound in sweep.constraints},
        )
        for candidate in candidates(load(folder))
    ]
    return [one for one in found if not any(map(math.isnan, (*one[1], *one[2].values())))]
