"""A finished sweep looked at with other objectives or constraints than it was searched with."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace

from gaptune.errors import UserError, did_you_mean
from gaptune.ledger import Constraint, SweepRecord
from gaptune.metrics.table import METRICS, Metric, find_metric
from gaptune.pareto.objectives import Objective, Objectives

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
    header = record.header
    objectives, constraints = _listed(objectives), _listed(constraints)
    if objectives:
        if not 2 <= len(objectives) <= 4:
            only = f"only {objectives[0]}" if len(objectives) == 1 else str(len(objectives))
            raise UserError(
                f"a front needs two to four objectives, got {only}; give each as METRIC, METRIC:max or METRIC:min, "
                "such as retrieval/mean_r1 and geometry/gap:min"
            )
        chosen = Objectives(_objective(record, text) for text in objectives)
        if len(set(chosen.metrics)) < len(chosen):
            raise UserError("an objective is given twice")
        header = replace(header, objectives=chosen)
    if constraints:
        added = tuple(_constraint(record, text) for text in constraints)
        header = replace(header, constraints=record.constraints + added)
    return replace(record, header=header)


def _listed(given: Sequence[str] | str) -> list[str]:
    """What was given as a list; a text alone, which Python takes for a sequence of letters, as a list of one."""
    return [given] if isinstance(given, str) else list(given)


def _objective(record: SweepRecord, text: str) -> Objective:
    metric, _, direction = text.partition(":")
    known = metric_of(record, metric)
    direction = direction or known.direction
    if direction not in ("max", "min"):
        raise UserError(f"{text!r}: expected METRIC:max or METRIC:min, such as geometry/gap:min")
    maximize = direction == "max"
    for own in record.objectives:
        if own.metric == metric and own.maximize == maximize:
            return own
    return Objective(metric, maximize)


def _constraint(record: SweepRecord, text: str) -> Constraint:
    found = _CONSTRAINT.fullmatch(text)
    try:
        if found is None or not math.isfinite(bound := float(found[3])):
            raise ValueError
    except ValueError:  # float's, too
        raise UserError(f"{text!r}: expected METRIC<=VALUE or METRIC>=VALUE, such as geometry/gap<=0.3") from None
    metric = metric_of(record, found[1]).name
    return Constraint(metric, max=bound) if found[2] == "<=" else Constraint(metric, min=bound)


def metric_of(record: SweepRecord, metric: str) -> Metric:
    """The row of a metric that the sweep has measured; of further evaluations too, which a sweep names itself.

    Raises:
        UserError: There is no such metric, or no trial has it; with the nearest name.
    """
    known, measured = find_metric(metric), {name for trial in record.trials.values() for name in trial.last}
    if known is None:
        raise UserError(f"no metric is called {metric!r}{did_you_mean(metric, measured | METRICS.keys())}")
    if measured and metric not in measured:
        raise UserError(f"no trial of {record.name!r} has {metric}{did_you_mean(metric, measured)}")
    return known
