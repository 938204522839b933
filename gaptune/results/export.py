"""A sweep as one flat table on disk."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from gaptune.ledger import SweepRecord


def frame(record: SweepRecord) -> pd.DataFrame:
    """All reports of a sweep, one row per trial and epoch (one row without scores for a trial that has none).

    Columns: ``trial``, ``state``, ``reason``, ``method``, ``epoch``, ``step``, ``at``, ``knob/…`` for what the search
    decided, ``config/…`` for the full configuration, and every metric under its own name.
    """
    rows = []
    for trial in record.trials.values():
        fixed = {
            "trial": trial.number,
            "state": str(trial.state),
            "reason": trial.reason,
            "method": trial.method,
            **{f"knob/{name}": value for name, value in trial.knobs.items()},
            **{f"config/{name}": value for name, value in trial.config.items()},
        }
        rows += [
            {**fixed, "epoch": report.epoch, "step": report.step, "at": report.at, **report.metrics}
            for report in trial.reports
        ] or [fixed]
    return pd.DataFrame(rows)


def write_parquet(record: SweepRecord, path: Path) -> None:
    """Writes ``frame(record)`` as Parquet; a column whose values are of several types becomes text."""
    table = frame(record)
    for name in table.columns[[kind == "object" for kind in table.dtypes]]:
        kinds = {type(value) for value in table[name].dropna()}
        if len(kinds) > 1:
            table[name] = table[name].map(lambda value: None if value is None else str(value))
    table.to_parquet(path, index=False)
