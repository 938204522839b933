"""What MLflow should hold of a sweep, as pure functions of its ledger: tags, parameters, metrics and status.

MLflow refuses some names, and two that differ only in case where its database ignores case. Such a name gets a safe
form (``safe_names``), so that no name can stop MLflow from being updated.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from gaptune.ledger import State, SweepHeader, SweepRecord, TrialRecord
from gaptune.space.methods import expand_method
from gaptune.text.markup import for_markdown, markdown_code

DESCRIPTION = "mlflow.note.content"
"""The tag that MLflow's UI shows as a run's description."""
PARENT = "mlflow.parentRunId"
SWEEP_ID = "gaptune.sweep_id"
TRIAL = "gaptune.trial"
FRONT, FRONT_RANK = "front", "front_rank"

_STATUS = {State.COMPLETE: "FINISHED", State.PRUNED: "KILLED", State.FAIL: "FAILED"}
_NAME, _TAG, _PARAM, _DATASET, _DIGEST = 250, 8000, 6000, 500, 36
"""MLflow's limits on the lengths of names and values."""


@dataclass(frozen=True)
class Point:
    """One value of a metric.

    Attributes:
        metric: Name of the metric.
        value: The value.
        at: Milliseconds since 1970.
        epoch: The epoch, which MLflow calls a step.
    """

    metric: str
    value: float
    at: int
    epoch: int


def sweep_tags(header: SweepHeader) -> dict[str, str]:
    """Tags of the sweep's run."""
    tags = {
        SWEEP_ID: header.id,
        "sweep": header.name,
        "space": header.space_name,
        "gaptune.version": header.versions["gaptune"],
        DESCRIPTION: describe(header),
    }
    return _tags(tags)


def sweep_params(header: SweepHeader) -> dict[str, str]:
    """Parameters of the sweep's run: those that do not vary."""
    return _params({name: value for name, value in header.base.items() if name not in header.varied})


def sweep_data(header: SweepHeader) -> dict[str, Any]:
    """The sweep's data, as the arguments of an MLflow dataset (its ``source`` and ``profile`` as mappings)."""
    data = header.data
    return {
        "name": data.name[:_DATASET],
        "digest": data.hash[:_DIGEST],
        "source": {"store": data.store, "sha256": data.hash},
        "profile": dict(data.splits),
    }


def sweep_status(record: SweepRecord) -> tuple[str, int | None]:
    """MLflow's status of the sweep's run, and when it ended, in milliseconds since 1970."""
    if record.done:
        return "FINISHED", milliseconds(record.updated_at)
    return ("RUNNING", None) if record.paused is None else ("KILLED", milliseconds(record.updated_at))


def describe(header: SweepHeader) -> str:
    """What a sweep looks for and how it was started, in Markdown."""
    wanted = ", ".join(f"{one.goal} {one.metric}" for one in header.objectives)
    return (
        f"Search space {markdown_code(header.space_name)} for {for_markdown(wanted)}.\n\n"
        f"{markdown_code(header.command)}"
    )


def description_tag(text: str) -> dict[str, str]:
    """The tag for a run's description."""
    return _tags({DESCRIPTION: text})


def run_name(name: str) -> str:
    """The name of a run, no longer than MLflow allows."""
    return _text(name, _NAME)


def trial_name(record: SweepRecord, trial: TrialRecord) -> str:
    """The name of a trial's run."""
    return run_name(f"{trial.number:04d} {trial.method} of {record.name}")  # number first: lists cut off the rest


def trial_tags(record: SweepRecord, trial: TrialRecord, parent: str) -> dict[str, str]:
    """Tags of a trial's run; ``parent`` is the id of the sweep's run."""
    header, state = record.header, trial.state
    tags = {
        PARENT: parent,
        TRIAL: str(trial.number),
        "gaptune.state": str(state if state.ended else State.RUNNING),
        "method": trial.method,
        "seed": str(trial.config.get("seed", "")),
        "space": header.space_name,
        "sweep": header.name,
        "data": header.data.hash,
        DESCRIPTION: ", ".join(f"{parameter} = {value}" for parameter, value in trial.params.items()),
    }
    return _tags(tags | {key: value for key, value in (("node", trial.node), ("reason", trial.reason)) if value})


def trial_params(trial: TrialRecord) -> dict[str, str]:
    """Parameters of a trial's run: what the search proposed, with what a method stands for."""
    return _params({**expand_method(trial.params), **{k: v for k, v in trial.params.items() if k == "method"}})


def trial_points(trial: TrialRecord) -> list[Point]:
    """Every value of every metric of a trial, in order."""
    reports = [(report, dict(report.metrics)) for report in list(trial.reports)]  # the driver may be adding to them
    names = safe_names(name for _, metrics in reports for name in metrics)
    return [
        Point(names[metric], value, milliseconds(report.at), report.epoch)
        for report, metrics in reports
        for metric, value in metrics.items()
    ]


def trial_status(record: SweepRecord, trial: TrialRecord) -> tuple[str, int | None]:
    """MLflow's status of a trial's run, and when it ended, in milliseconds since 1970.

    A trial that a driver left unfinished is KILLED until the sweep is resumed; none is left RUNNING.
    """
    if trial.state.ended and trial.ended_at is not None:
        return _STATUS[trial.state], milliseconds(trial.ended_at)
    if record.paused is not None or record.done:
        return "KILLED", milliseconds(record.updated_at)
    return "RUNNING", None


def front_tags(rank: int | None) -> dict[str, str]:
    """Tags of a trial by its rank on the front (1 for the best first objective); none for one that is not on it."""
    return {} if rank is None else {FRONT: "true", FRONT_RANK: str(rank)}


def milliseconds(seconds: float) -> int:
    """A time as MLflow has it."""
    return int(seconds * 1000)


def safe_names(names: Iterable[str]) -> dict[str, str]:
    """Names that MLflow takes, by the names that gaptune has; almost always the same.

    A name that MLflow refuses, or that differs only in case from one before it, ends in a hash of the original. So the
    result for a name depends only on the names before it, and stays as it is when further ones come.
    """
    found: dict[str, str] = {}
    taken: set[str] = set()
    for name in names:
        if name in found:
            continue
        safe = _safe(name)
        if not safe or safe != name or safe.casefold() in taken:
            safe = f"{safe[: _NAME - 9]}-{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"
        taken.add(safe.casefold())
        found[name] = safe
    return found


@lru_cache(maxsize=4096)
def _safe(name: str) -> str:
    """A name with MLflow's characters only, which as a path has one form only."""
    parts = re.sub(r"[^A-Za-z0-9_./ -]", "_", name).split("/")
    return "/".join(part.strip() for part in parts if part.strip() not in ("", ".", ".."))[:_NAME].rstrip(" /")


def _tags(tags: Mapping[str, str]) -> dict[str, str]:
    return {key: _text(value, _TAG) for key, value in tags.items()}


def _params(params: Mapping[str, Any]) -> dict[str, str]:
    names = safe_names(params)
    return {names[name]: _text(str(value), _PARAM) for name, value in params.items()}


def _text(value: str, limit: int) -> str:
    """A text that every database takes: without NUL and without what UTF-8 cannot encode."""
    return value.encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")[:limit]
