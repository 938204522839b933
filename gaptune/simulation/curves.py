"""Recorded learning curves: what the simulator replays in place of training."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from gaptune.errors import UserError
from gaptune.ledger import State, SweepRecord, TrialRecord
from gaptune.space.model import Integer, Real, Space

_KEY = b"gaptune"


class Curves:
    """Answers any set of parameters with the learning curve of the nearest recorded trial.

    Nearest in the space scaled to [0, 1]: the distance is the mean difference over the parameters that either trial
    has, 1 for another choice and for a parameter that only one of them has. What is nearest twice goes to the first.

    Args:
        space: Gives parameters their scale.
        params: Of each recorded trial.
        curves: The scores of each after every epoch.
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
        """The curve that stands for a trial's."""
        return self.curves[self.nearest(trial.params)]

    def nearest(self, params: Mapping[str, Any]) -> int:
        """The index of the recorded trial that is nearest to some parameters."""
        here = _place(self._space, params)
        return min(range(len(self._places)), key=lambda index: _distance(here, self._places[index]))

    @classmethod
    def read(cls, path: Path, space: Space) -> Curves:
        """Reads what ``write_curves`` wrote, for a space that has the recorded parameters.

        Raises:
            UserError: A recorded trial does not lie in the space.
        """
        table = pq.read_table(path)
        frame = table.to_pandas()
        found = json.loads(table.schema.metadata[_KEY])
        for params in found["params"]:
            if params not in space:
                raise UserError(f"{path} was recorded in another space: {params} does not lie in {space.name}")
        metrics = [name for name in frame.columns if "/" in name]
        curves = [part.sort_values("epoch")[metrics].to_dict("records") for _, part in frame.groupby("trial")]
        return cls(space, found["params"], curves)


def write_curves(record: SweepRecord, path: Path, about: Mapping[str, str]) -> int:
    """Writes the curves of a sweep's completed trials as one small Parquet file (32-bit floats).

    Args:
        record: The sweep.
        path: The file.
        about: What a reader should know: the command, the machine, the date.

    Returns:
        How many trials were written.
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
    """Each varied parameter's position: 0 to 1 for numbers, the value as text for choices."""
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
