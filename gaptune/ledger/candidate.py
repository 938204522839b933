"""What a candidate has come to over its seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from gaptune.config import SweepConfig
from gaptune.ledger import SweepRecord, TrialRecord


def outcome(
    record: SweepRecord, group: Sequence[TrialRecord], sweep: SweepConfig
) -> tuple[list[float], list[float], dict[str, float]]:
    """What a candidate has come to over its seeds.

    Returns:
        The means of the objectives, their standard deviations over seeds, and by how much each constraint is broken.
    """
    values = np.array([record.values(trial) for trial in group], dtype=float)
    violations = {
        constraint.metric: constraint.violation(
            float(np.mean([trial.last.get(constraint.metric, math.nan) for trial in group]))
        )
        for constraint in sweep.constraints
    }
    spread = values.std(axis=0, ddof=1) if len(group) > 1 else np.zeros(values.shape[1])
    return values.mean(axis=0).tolist(), spread.tolist(), violations
