"""Recorded learning curves, which the simulator uses instead of training."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from gaptune.errors import UserError
from gaptune.ledger import State, SweepRecord, TrialRecord
from gaptune.space.model import Integer, Real, Space

_KEY = b"gaptune"


class Curves:
    """Returns the learning curve of the nearest recorded trial for any params.

    Numbers are scaled to [0, 1]. The distance of two trials is the mean difference over the parameters that at least
    one of them has; the difference is 1 for different choices and for a parameter that only one trial has. The first
    recorded trial wins ties.

    Args:
        space: Search space, which defines the scale of each parameter.
        params: Params of each recorded trial.
        curves: Metrics of each recorded trial after each epoch; without a report of its own, those of the next one.
    """

    def __init__(
        self, space: Space, params: Sequence[Mapping[str, Any]], curves: Sequence[Sequence[Mapping[str, float]]]
    ) -> None:
        self._space = space
        self._places = [_place(space, one) for one in params]
        self.curves = curves

    def __len__(self) -> int:
        return len(self.curves)

    def __call__(self, trial: TrialRecord) -> Sequence[Mapping[str, float]]:
        """Returns the curve for a trial."""
        return self.curves[self.nearest(trial.params)]

    def nearest(self, params: Mapping[str, Any]) -> int:
        """Returns the index of the recorded trial that is nearest to the params."""
        here = _place(self._space, params)
        return min(range(len(self._places)), key=lambda index: _distance(here, self._places[index]))

    @classmethod
    def read(cls, path: Path, space: Space) -> Curves:
        """Reads a file from ``write_curves``.

        Raises:
            UserError: A recorded trial is not in the space.
        """
        table = pq.read_table(path)
        frame = table.to_pandas()
        found = json.loads(table.schema.metadata[_KEY])
        for params in found["params"]:
            if params not in space:
                raise UserError(f"{path} was recorded in a different search space: {params} is not in {space.name}")
        metrics = [name for name in frame.columns if "/" in name]
        curves = []
        for _, part in frame.sort_values("epoch").groupby("trial"):
            epochs = part["epoch"].to_numpy()
            reports = np.searchsorted(epochs, np.arange(1, epochs[-1] + 1))  # without one of its own, the next one
            curves.append(part[metrics].iloc[reports].to_dict("records"))
        return cls(space, found["params"], curves)


def write_curves(record: SweepRecord, path: Path, about: Mapping[str, str]) -> int:
    """Writes the curves of the complete trials of a sweep to a Parquet file (32-bit floats).

    Args:
        record: State of the sweep.
        path: Path of the file.
        about: Metadata for readers, such as the command, the machine, and the date.

    Returns:
        Number of trials in the file.
    """
    complete = [trial for trial in record.trials.values() if trial.state is State.COMPLETE]
    frame = pd.DataFrame(
        [
            {"trial": number, "epoch": report.epoch, **report.metrics}
            for number, trial in enumerate(complete)
            for report in trial.reports
        ]
    )
    floats = frame.select_dtypes("float64").columns
    table = pa.Table.from_pandas(frame.astype(dict.fromkeys(floats, "float32")), preserve_index=False)
    content = json.dumps({**about, "params": [trial.params for trial in complete]})
    pq.write_table(table.replace_schema_metadata({_KEY: content}), path, compression="zstd")
    return len(complete)


def _place(space: Space, params: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the position of each varied parameter: a number in [0, 1], or the text of a choice."""
    place: dict[str, Any] = {}
    for parameter in space.parameters:
        if parameter.fixed or parameter.name not in params:
            continue
        value, of = params[parameter.name], parameter.distribution
        if isinstance(of, Real | Integer):
            low, high, here = (math.log(x) if of.log else float(x) for x in (of.low, of.high, value))
            place[parameter.name] = (here - low) / (high - low)
        else:
            place[parameter.name] = repr(value)
    return place


def _distance(one: Mapping[str, Any], other: Mapping[str, Any]) -> float:
    names = {*one, *other}
    apart = [_apart(one[name], other[name]) if name in one and name in other else 1.0 for name in names]
    return math.fsum(apart) / len(names)


def _apart(one: Any, other: Any) -> float:
    if isinstance(one, float) and isinstance(other, float):
        return abs(one - other)
    return float(one != other)
