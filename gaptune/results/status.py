"""Where a sweep stands."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from gaptune.ledger import State, SweepRecord
from gaptune.results.front import summarize


def progress(record: SweepRecord) -> dict[str, Any]:
    """Where a sweep stands, as plain data: counts, running trials with their newest metrics, nodes, front."""
    summary = summarize(record)
    return {
        "command": record.header.command,
        "paused": record.paused,
        "trials": {str(state): count for state, count in summary.counts.items()},
        "under_way": [
            {
                "trial": trial.number,
                "method": trial.method,
                "state": str(trial.state),
                "node": trial.node,
                "epoch": trial.epoch,
                "metrics": trial.last,
            }
            for trial in record.trials.values()
            if not trial.state.ended
        ],
        "nodes": running_on(record),
        "front": [member.trial.number for member in summary.front],
        "hypervolume": summary.hypervolume,
        "unknown": {} if summary.unknown is None else {"hypervolume": asdict(summary.unknown)},
        "updated_at": record.updated_at,
    }


def running_on(record: SweepRecord) -> dict[str, list[int]]:
    """The numbers of the trials that run on each node, by its name; a node whose trials have all ended is left out."""
    nodes: dict[str, list[int]] = {}
    for trial in record.trials.values():
        if trial.state is State.RUNNING and trial.node:
            nodes.setdefault(trial.node, []).append(trial.number)
    return dict(sorted(nodes.items()))
