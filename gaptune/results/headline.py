"""A sweep's outcome in a few sentences, for the report and for MLflow's description."""

from __future__ import annotations

from collections.abc import Sequence

from gaptune.ledger import SweepRecord
from gaptune.ledger.candidate import Candidate
from gaptune.results.correlation import Correlation
from gaptune.results.front import Summary
from gaptune.results.selection import knee
from gaptune.results.unknown import Unknown, Why
from gaptune.text.words import counted


def headline(record: SweepRecord, summary: Summary, found: Sequence[Correlation]) -> list[str]:
    """A sweep's outcome in a few sentences, as plain text.

    Args:
        record: The sweep.
        summary: Its front.
        found: Correlations; those of retrieval are included if they were measured.
    """
    if not summary.front:
        return [f"There is no front: {summary.unknown}."]
    members = len(summary.front)
    volume = "" if summary.hypervolume is None else f" (hypervolume {summary.hypervolume:.3f})"
    pareto = "is Pareto-optimal" if members == 1 else "are Pareto-optimal"
    sentences = [
        f"{members} of {counted(summary.complete, 'complete candidate', 'complete candidates')} {pareto}{volume}."
    ]
    if summary.hypervolume is None:
        sentences.append(f"The hypervolume is unknown: {summary.unknown}.")
    if record.constraints:
        sentences.append(constrained(record, summary))
    for index, objective in enumerate(record.objectives):
        best = max(summary.front, key=lambda member: objective.sign * member.values[index])
        sentences.append(f"Best {objective.metric}: {_named(record, best)}.")
    bend = knee(record, summary.front)
    if isinstance(bend, Unknown):
        sentences.append(f"The front has no knee: {bend}.")
    else:
        sentences.append(f"The knee, the best trade-off: {_named(record, bend)}.")
    told = [one for one in found if one.first.startswith("retrieval/")]
    return [
        *sentences,
        *(one.sentence() for one in told if one.unknown is None or one.unknown.why is not Why.NOT_MEASURED),
    ]


def constrained(record: SweepRecord, summary: Summary) -> str:
    """How many candidates the constraints rule out, in a sentence; of a sweep with constraints."""
    rules = " and ".join(map(str, record.constraints))
    out = counted(summary.infeasible, "complete candidate breaks", "complete candidates break")
    who = out if summary.infeasible else "No complete candidate breaks"
    return f"{who} the {'constraint' if len(record.constraints) == 1 else 'constraints'} {rules}."


def _named(record: SweepRecord, member: Candidate) -> str:
    values = ", ".join(
        f"{metric} {value:.3g}" for metric, value in zip(record.objectives.metrics, member.values, strict=True)
    )
    return f"trial {member.trial.number} ({member.trial.method}) with {values}"
