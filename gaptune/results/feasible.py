"""Constraints: whether a candidate keeps them, and which of them shuts out how many."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from gaptune.metrics.table import excess
from gaptune.results.unknown import Unknown, Why, counted

if TYPE_CHECKING:
    from gaptune.results.front import Candidate

Constraint = Mapping[str, Any]


def keeps(value: float, constraint: Constraint) -> bool:
    """Whether a value lies within a constraint's bounds; NaN never does."""
    return _excess(value, constraint) <= 0


def said(constraint: Constraint) -> str:
    """A constraint in words, such as ``geometry/gap <= 0.3``."""
    low, high = constraint["min"], constraint["max"]
    metric = constraint["metric"]
    if low is not None and high is not None:
        return f"{low:g} <= {metric} <= {high:g}"
    return f"{metric} >= {low:g}" if high is None else f"{metric} <= {high:g}"


def broken(constraints: Sequence[Constraint], candidate: Candidate) -> list[str]:
    """The constraints that a candidate breaks, in words."""
    return [said(one) for one in constraints if not keeps(candidate.mean(str(one["metric"])), one)]


def none_feasible(constraints: Sequence[Constraint], complete: Sequence[Candidate], trials: int) -> Unknown:
    """The reason where every complete candidate breaks a constraint: which shut out how many, and who is nearest.

    The nearest has the least sum of excesses, each as a fraction of what the metric spans over the candidates.

    Args:
        constraints: Of the sweep.
        complete: Its candidates.
        trials: How many trials are complete: more than candidates with several seeds, or where parameters were drawn
            twice.
    """
    total = np.zeros(len(complete))
    parts = []
    for constraint in constraints:
        values = np.array([one.mean(str(constraint["metric"])) for one in complete])
        over = np.array([_excess(value, constraint) for value in values.tolist()])
        out = int((~(over <= 0)).sum())
        if out:
            missing = int(np.isnan(values).sum())
            unmeasured = f" ({missing} of them without the metric)" if missing else ""
            parts.append(f"{said(constraint)} rules out {out}{unmeasured}")
        known = values[np.isfinite(values)]
        span = float(np.ptp(known)) if len(known) else 0.0
        total += np.where(np.isnan(over), math.inf, np.maximum(over, 0.0) / (span or 1.0))
    more = "" if trials == len(complete) else f" ({trials} trials)"
    are = counted(len(complete), "candidate is", "candidates are")
    text = f"{are} complete{more}, and none is within the constraints: {', '.join(parts)}"
    nearest = complete[int(np.argmin(total))]
    if math.isfinite(total.min()):
        metrics = dict.fromkeys(
            str(one["metric"]) for one in constraints if not keeps(nearest.mean(str(one["metric"])), one)
        )
        values_of = ", ".join(f"{metric} {nearest.mean(metric):.4g}" for metric in metrics)
        text += f"; nearest is trial {nearest.trial.number} with {values_of}"
    return Unknown(Why.NONE_FEASIBLE, text)


def _excess(value: float, constraint: Constraint) -> float:
    low, high = (None if constraint[side] is None else float(constraint[side]) for side in ("min", "max"))
    return excess(value, low, high)
