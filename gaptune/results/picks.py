"""One member of a front: the knee, or what a stated preference picks."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from gaptune.errors import UserError
from gaptune.ledger import SweepRecord
from gaptune.pareto import oriented
from gaptune.results.front import Candidate
from gaptune.results.view import score_of

_ALONE = re.compile(r"\s*(\S+)\s*")
_WITHIN = re.compile(r"\s*(\S+)\s+within\s+(\d+(?:\.\d*)?)\s*%\s*,\s*then\s+(\S+)\s*")
_ROUNDING = 1e-9


def knee(record: SweepRecord, members: Sequence[Candidate]) -> Candidate | None:
    """The member with the largest sum of objectives: giving up little in one, it gains much in another.

    Objectives are scaled to the front's own range first, so that units do not matter; of two objectives it is the
    member farthest beyond the line through the ends of the front (Das 1999). None where no member lies beyond it: a
    front of fewer than three, or one that bends inwards.
    """
    if len(members) < 3:
        return None
    maximize = [objective["maximize"] for objective in record.objectives]
    points = oriented([member.values for member in members], maximize)
    low, high = points.min(axis=0), points.max(axis=0)
    scaled = (points - low) / np.where(high > low, high - low, 1.0)
    total = scaled.sum(axis=1)
    return members[int(total.argmax())] if total.max() > 1 + _ROUNDING else None  # the ends themselves add up to 1


def pick(record: SweepRecord, members: Sequence[Candidate], preference: str) -> Candidate:
    """The member that a preference picks, such as ``retrieval/mean_r1 within 1%, then uniformity/w2``.

    Among the members whose first metric is within so much of the best one's (of its absolute value), the one that is
    best in the second. A metric alone picks the member that is best in it. What was not measured is never picked.

    Args:
        record: Says which way its objectives are better; other metrics have their own direction.
        members: Of the front, at least one.
        preference: In one of the forms above.

    Raises:
        UserError: The form or a metric is unknown, no member has the metric, or there are no members.
    """
    found = _WITHIN.fullmatch(preference) or _ALONE.fullmatch(preference)
    if found is None:
        raise UserError(f"{preference!r}: expected METRIC, or 'METRIC within P%, then METRIC'")
    if not members:
        raise UserError("the front is empty: there is nothing to pick")
    first, share, second = [*found.groups(), None, None][:3]
    assert first is not None
    near = _near_best(record, members, first, float(share or 0) / 100)
    return _near_best(record, near, second or first, 0.0)[0]


def _near_best(record: SweepRecord, members: Sequence[Candidate], metric: str, share: float) -> list[Candidate]:
    """The members within a share of the best in a metric, in their order."""
    values = np.array([_sign(record, metric) * member.mean(metric) for member in members])
    if np.isnan(values).all():
        raise UserError(f"no member of the front has {metric}")
    best = float(np.nanmax(values))
    limit = best - share * abs(best)
    return [member for member, value in zip(members, values, strict=True) if value >= limit]


def _sign(record: SweepRecord, metric: str) -> float:
    for objective in record.objectives:
        if objective["metric"] == metric:
            return 1.0 if objective["maximize"] else -1.0
    direction = score_of(record, metric).direction
    if direction == "none":
        raise UserError(f"{metric} has no better side")
    return 1.0 if direction == "max" else -1.0
