"""A sweep as one flat table on disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from gaptune.ledger import SweepRecord
from gaptune.ledger.candidate import Candidate
from gaptune.results.front import completed

_EMPTY = ["trial", "state", "feasible", "reason", "method", "epoch", "step", "at"]
"""Columns of a sweep without trials."""


def frame(record: SweepRecord) -> pd.DataFrame:
    """All reports of a sweep, one row per trial and report (one row without metrics for a trial that has none).

    Columns: ``trial``, ``state``, ``feasible`` (whether the trial's candidate keeps the constraints; empty for what is
    not complete), ``reason``, ``method``, ``epoch``, ``step``, ``at``, ``parameter/…`` for what the search decided,
    ``config/…`` for the full configuration, and every metric under its own name.
    """
    rows = []
    kept = {trial.number: one.feasible for one in completed(record) for trial in one.trials}
    for trial in record.trials.values():
        fixed = {
            "trial": trial.number,
            "state": str(trial.state),
            "feasible": kept.get(trial.number),
            "reason": trial.reason,
            "method": trial.method,
            **{f"parameter/{name}": value for name, value in trial.params.items()},
            **{f"config/{name}": value for name, value in trial.config.items()},
        }
        rows += [
            {**fixed, "epoch": report.epoch, "step": report.step, "at": report.at, **report.metrics}
            for report in trial.reports
        ] or [fixed]
    return pd.DataFrame(rows, columns=None if rows else _EMPTY).astype({"feasible": "boolean"})


def candidate_frame(record: SweepRecord, chosen: Sequence[Candidate]) -> pd.DataFrame:
    """Some candidates, one row each, indexed by ``trial`` (that of the first seed).

    Columns: ``method``, ``seeds`` (how many), ``feasible`` (whether it keeps the constraints), ``parameter/…`` for what
    varied in the sweep, and every metric under its own name: the mean over the seeds.
    """
    varied = record.header.varied_params
    metrics = {metric: None for one in chosen for metric in one.trial.last}
    rows = [
        {
            "method": one.trial.method,
            "seeds": len(one.trials),
            "feasible": one.feasible,
            **{f"parameter/{parameter}": one.trial.params.get(parameter) for parameter in varied},
            **{metric: one.mean(metric) for metric in metrics},
        }
        for one in chosen
    ]
    columns = ["method", "seeds", "feasible", *(f"parameter/{parameter}" for parameter in varied), *metrics]
    return pd.DataFrame(rows, columns=columns, index=pd.Index([one.trial.number for one in chosen], name="trial"))


def write_parquet(record: SweepRecord, path: Path) -> None:
    """Writes ``frame(record)`` as Parquet; a column whose values are of several types becomes text."""
    table = frame(record)
    for name in table.columns[[kind == "object" for kind in table.dtypes]]:
        kinds = {type(value) for value in table[name].dropna()}
        if len(kinds) > 1:
            table[name] = table[name].map(lambda value: None if value is None else str(value))
    table.to_parquet(path, index=False)
