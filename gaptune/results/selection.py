"""One member of a front: the knee, or what a stated preference picks."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from gaptune.errors import UserError
from gaptune.ledger import SweepRecord
from gaptune.ledger.candidate import Candidate
from gaptune.results.unknown import Unknown, Why, varies
from gaptune.results.view import metric_of
from gaptune.text.words import counted

Values = npt.NDArray[np.float64]

_ALONE = re.compile(r"\s*(\S+)\s*")
_WITHIN = re.compile(r"\s*(\S+)\s+within\s+(\d+(?:\.\d*)?)\s*%\s*,\s*then\s+(\S+)\s*")
_ROUNDING = 1e-9
_FEWEST = 3
"""Members that a front with a knee has at least."""


def knee(record: SweepRecord, members: Sequence[Candidate]) -> Candidate | Unknown:
    """The member farthest beyond the line, or plane, between the ends of the front: the best trade-off.

    Objectives are scaled to the front's own range first, so that units do not matter; one that does not vary is left
    out. An end is a member that is best in an objective, and is never the knee. Through two ends goes a line, through
    three a plane (Das 1999); of ends that are equal in an objective, the one with the largest sum of the others.

    Args:
        record: Gives the objectives.
        members: Members of the front.

    Returns:
        The knee, or why there is none: fewer than three members, all equal, one member best in two objectives (then
        the ends span no plane), or no member beyond it, as where the front bends inwards.
    """
    points = record.objectives.maximized([member.values for member in members])
    points = points[:, [varies(column) for column in points.T]]
    if len(members) > 1 and points.shape[1] == 0:
        return Unknown(Why.ALL_EQUAL, f"its {len(members)} members are equal in all objectives")
    if len(members) < _FEWEST:
        return Unknown(Why.TOO_FEW, f"it has {counted(len(members), 'member', 'members')}, and a knee takes {_FEWEST}")
    low, high = points.min(axis=0), points.max(axis=0)
    unit = (points - low) / (high - low)
    plane = "line" if unit.shape[1] == 2 else "plane"
    top = unit > 1 - _ROUNDING
    ends = [int(np.where(best, unit.sum(axis=1), -np.inf).argmax()) for best in top.T]
    normal = _normal(unit[ends])
    if normal is None:
        return Unknown(Why.NO_ENDS, f"its ends span no {plane}: a member is best in several objectives, or nearly so")
    beyond = np.where(top.any(axis=1), -np.inf, unit @ normal - 1.0)
    if beyond.max() <= _ROUNDING:
        return Unknown(Why.NO_BEND, f"no candidate lies beyond the {plane} between its ends")
    return members[int(beyond.argmax())]


def _normal(ends: Values) -> Values | None:
    """The vector n with n·end = 1 for each end; None where none has a positive part in every objective."""
    try:
        normal = np.asarray(np.linalg.solve(ends, np.ones(len(ends))), dtype=np.float64)
    except np.linalg.LinAlgError:
        return None
    faces = np.isfinite(normal).all() and (normal > _ROUNDING).all() and np.allclose(ends @ normal, 1.0)
    return normal if faces else None


def pick(record: SweepRecord, members: Sequence[Candidate], preference: str) -> Candidate:
    """The member that a preference picks, such as ``retrieval/mean_r1 within 1%, then uniformity/w2``.

    Among the members whose first metric is within so much of the best one's (of its absolute value), the one that is
    best in the second. A metric alone picks the member that is best in it. What was not measured is never picked.

    Args:
        record: Says which way its objectives are better; other metrics have their own direction.
        members: Members of the front, at least one.
        preference: In one of the forms above.

    Raises:
        UserError: The form or a metric is unknown, the percentage is above 100, no member has the metric, or there are
            no members.
    """
    found = _WITHIN.fullmatch(preference) or _ALONE.fullmatch(preference)
    if found is None:
        raise UserError(f"{preference!r}: expected METRIC, or 'METRIC within P%, then METRIC'")
    if not members:
        raise UserError("the front is empty: there is nothing to pick")
    first, fraction, second = [*found.groups(), None, None][:3]
    assert first is not None
    if float(fraction or 0) > 100:
        raise UserError(f"{preference!r}: expected a percentage from 0 to 100, got {fraction}")
    near = _near_best(record, members, first, float(fraction or 0) / 100)
    return _near_best(record, near, second or first, 0.0)[0]


def _near_best(record: SweepRecord, members: Sequence[Candidate], metric: str, fraction: float) -> list[Candidate]:
    """The members within a fraction of the best in a metric, in their order."""
    values = np.array([_sign(record, metric) * member.mean(metric) for member in members])
    if np.isnan(values).all():
        raise UserError(f"no member of the front has {metric}")
    best = float(np.nanmax(values))
    limit = best - fraction * abs(best)
    return [member for member, value in zip(members, values, strict=True) if value >= limit]


def _sign(record: SweepRecord, metric: str) -> float:
    for objective in record.objectives:
        if objective.metric == metric:
            return objective.sign
    direction = metric_of(record, metric).direction
    if direction == "none":
        raise UserError(f"{metric} has no default direction")
    return 1.0 if direction == "max" else -1.0
