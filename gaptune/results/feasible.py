"""Why no candidate of a sweep is feasible."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from gaptune.ledger import Constraint
from gaptune.ledger.candidate import Candidate
from gaptune.results.unknown import Unknown, Why
from gaptune.text.words import counted


def none_feasible(constraints: Sequence[Constraint], complete: Sequence[Candidate], trials: int) -> Unknown:
    """The reason if every complete candidate breaks a constraint: how many break which, and the nearest candidate.

    The nearest has the least sum of excesses, each as a fraction of the metric's range over the candidates.

    Args:
        constraints: Constraints of the sweep.
        complete: Its complete candidates.
        trials: Number of complete trials, which is larger with several seeds or repeated parameters.
    """
    total = np.zeros(len(complete))
    parts = []
    for constraint in constraints:
        values = np.array([one.mean(constraint.metric) for one in complete])
        over = np.array([constraint.violation(value) for value in values.tolist()])
        out = int((~(over <= 0)).sum())
        if out:
            missing = int(np.isnan(values).sum())
            unmeasured = f" ({missing} of them without the metric)" if missing else ""
            parts.append(f"{constraint} rules out {out}{unmeasured}")
        known = values[np.isfinite(values)]
        span = float(np.ptp(known)) if len(known) else 0.0
        total += np.where(np.isnan(over), math.inf, np.maximum(over, 0.0) / (span or 1.0))
    more = "" if trials == len(complete) else f" ({trials} trials)"
    are = counted(len(complete), "candidate is", "candidates are")
    text = f"{are} complete{more}, and none is within the constraints: {', '.join(parts)}"
    nearest = complete[int(np.argmin(total))]
    if math.isfinite(total.min()):
        metrics = dict.fromkeys(constraint.metric for constraint in nearest.broken)
        values_of = ", ".join(f"{metric} {nearest.mean(metric):.4g}" for metric in metrics)
        text += f"; nearest is trial {nearest.trial.number} with {values_of}"
    return Unknown(Why.NONE_FEASIBLE, text)
