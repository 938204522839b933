"""A finished sweep looked at with other objectives or constraints than it was searched with."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from gaptune.errors import UserError, did_you_mean
from gaptune.ledger import SweepRecord
from gaptune.metrics.table import METRICS, Metric, find_metric

_CONSTRAINT = re.compile(r"\s*([^\s<>=]+)\s*(<=|>=)\s*(\S+)\s*")


def view(
    record: SweepRecord, objectives: Sequence[str] | str = (), constraints: Sequence[str] | str = ()
) -> SweepRecord:
    """The same trials with other objectives or constraints; everything in ``gaptune.results`` takes it.

    Args:
        record: The sweep.
        objectives: ``metric`` or ``metric:max``/``metric:min``, two to four of them; none for the sweep's own. One that
            the sweep has keeps its reference and ideal point; others have none, and then there is no hypervolume.
        constraints: ``metric<=value`` or ``metric>=value``, in addition to the sweep's own.

    Raises:
        UserError: A metric or a form is unknown, or the number of objectives is not 2 to 4.
    """
    header = dict(record.header)
    objectives, constraints = _listed(objectives), _listed(constraints)
    if objectives:
        if not 2 <= len(objectives) <= 4:
            only = f"only {objectives[0]}" if len(objectives) == 1 else str(len(objectives))
            raise UserError(
                f"a front needs two to four objectives, got {only}; give each as METRIC, METRIC:max or METRIC:min, "
                "such as retrieval/mean_r1 and geometry/gap:min"
            )
        header["objectives"] = [_objective(record, text) for text in objectives]
        if len({objective["metric"] for objective in header["objectives"]}) < len(objectives):
            raise UserError("an objective is given twice")
    if constraints:
        kept = [*record.constraints, *(_constraint(record, text) for text in constraints)]
        header["config"] = {**header["config"], "constraints": kept}
    return replace(record, header=header)


def _listed(given: Sequence[str] | str) -> list[str]:
    """What was given as a list; a text alone, which Python takes for a sequence of letters, as a list of one."""
    return [given] if isinstance(given, str) else list(given)


def _objective(record: SweepRecord, text: str) -> dict[str, Any]:
    metric, _, direction = text.partition(":")
    score = metric_of(record, metric)
    direction = direction or score.direction
    if direction not in ("max", "min"):
        raise UserError(f"{text!r}: expected METRIC:max or METRIC:min, such as geometry/gap:min")
    maximize = direction == "max"
    for own in record.objectives:
        if own["metric"] == metric and own["maximize"] == maximize:
            return own
    return {"metric": metric, "maximize": maximize, "reference": math.nan, "ideal": math.nan}


def _constraint(record: SweepRecord, text: str) -> dict[str, Any]:
    from gaptune.config import ConstraintConfig  # pydantic's models take long to import

    found = _CONSTRAINT.fullmatch(text)
    try:
        if found is None:
            raise ValueError
        metric, sign, bound = found[1], found[2], float(found[3])
        metric_of(record, metric)
        sides = {"max": bound} if sign == "<=" else {"min": bound}
        return ConstraintConfig(metric=metric, **sides).model_dump()
    except ValueError:  # or pydantic's, which is one
        raise UserError(f"{text!r}: expected METRIC<=VALUE or METRIC>=VALUE, such as geometry/gap<=0.3") from None


def metric_of(record: SweepRecord, metric: str) -> Metric:
    """The row of a metric that the sweep has measured; of further evaluations too, which a sweep names itself.

    Raises:
        UserError: There is no such metric, or no trial has it; with the nearest name.
    """
    score, measured = find_metric(metric), {name for trial in record.trials.values() for name in trial.last}
    if score is None:
        raise UserError(f"no metric is called {metric!r}{did_you_mean(metric, measured | METRICS.keys())}")
    if measured and metric not in measured:
        raise UserError(f"no trial of {record.name!r} has {metric}{did_you_mean(metric, measured)}")
    return score
