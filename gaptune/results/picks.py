"""One member of a front: the knee, or what a stated preference picks."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from gaptune.errors import UserError, did_you_mean
from gaptune.ledger import SweepRecord
from gaptune.pareto import oriented
from gaptune.results.front import Candidate
from gaptune.scores import SCORES

_WITHIN = re.compile(r"\s*([\w/]+)\s+within\s+([\d.]+)\s*%\s*,\s*then\s+([\w/]+)\s*")


def knee(record: SweepRecord, members: Sequence[Candidate]) -> Candidate | None:
    """The member farthest from the plane through the best of each objective: giving up little, it gains much.

    Objectives are scaled to the front's own range first, so that units do not matter (Das 1999). None for fewer than
    three members, among which there is no bend.
    """
    if len(members) < 3:
        return None
    maximize = [objective["maximize"] for objective in record.objectives]
    points = oriented([member.values for member in members], maximize)
    low, high = points.min(axis=0), points.max(axis=0)
    scaled = (points - low) / np.where(high > low, high - low, 1.0)
    return members[int(scaled.sum(axis=1).argmax())]


def pick(record: SweepRecord, members: Sequence[Candidate], preference: str) -> Candidate:
    """The member that a preference picks: ``retrieval/mean_r1 within 1%, then uniformity/w2``.

    Among the members whose first metric is within so much of the best one's (of its absolute value), the one that is
    best in the second.

    Args:
        record: Says which way its objectives are better; other metrics have their own direction.
        members: Of the front, at least one.
        preference: In the form above.

    Raises:
        UserError: The form or a metric is unknown, or there are no members.
    """
    found = _WITHIN.fullmatch(preference)
    if found is None:
        raise UserError(f"{preference!r}: expected 'METRIC within P%, then METRIC'")
    if not members:
        raise UserError("the front is empty: there is nothing to pick")
    first, share, second = found[1], float(found[2]) / 100, found[3]
    values = np.array([_sign(record, first) * member.mean(first) for member in members])
    limit = np.nanmax(values) - share * abs(np.nanmax(values))
    near = [member for member, value in zip(members, values, strict=True) if value >= limit]
    return max(near, key=lambda member: _sign(record, second) * member.mean(second))


def _sign(record: SweepRecord, metric: str) -> float:
    for objective in record.objectives:
        if objective["metric"] == metric:
            return 1.0 if objective["maximize"] else -1.0
    if metric not in SCORES:
        raise UserError(f"no metric is called {metric!r}{did_you_mean(metric, SCORES)}")
    if SCORES[metric].direction == "none":
        raise UserError(f"{metric} has no better side")
    return 1.0 if SCORES[metric].direction == "max" else -1.0
