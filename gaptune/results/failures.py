"""Trials that have no outcome: failed and stopped ones, with the reasons."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

from gaptune.ledger import State, SweepRecord


@dataclass(frozen=True)
class Unfinished:
    """Trials that ended for one kind of reason.

    Attributes:
        state: FAIL or PRUNED.
        reason: What comes before the colon in the trials' own reasons, such as ``non-finite`` or ``rung 17%``.
        trials: Their numbers.
        epochs: Epochs that they were trained.
        example: The whole reason of the first.
    """

    state: State
    reason: str
    trials: list[int]
    epochs: int
    example: str


def unfinished(record: SweepRecord) -> list[Unfinished]:
    """Failed and stopped trials by kind of reason: failures first, then the most frequent first.

    Each trial's own reason is its ``TrialRecord.reason``.
    """
    groups: dict[tuple[State, str], list[int]] = {}
    for trial in record.trials.values():
        if trial.state in (State.FAIL, State.PRUNED):
            kind = (trial.reason or "unknown").partition(":")[0]
            groups.setdefault((trial.state, kind), []).append(trial.number)
    found = [
        Unfinished(
            state,
            kind,
            numbers,
            sum(record.trials[number].epoch for number in numbers),
            record.trials[numbers[0]].reason or kind,
        )
        for (state, kind), numbers in groups.items()
    ]
    return sorted(found, key=lambda one: (one.state is not State.FAIL, -len(one.trials)))


def nothing_complete(record: SweepRecord) -> str | None:
    """A sentence for a sweep of which no trial is COMPLETE, with the most frequent reason; None where one is."""
    if record.count(State.COMPLETE):
        return None
    reasons = [trial.reason or "no reason" for trial in record.trials.values() if trial.state is State.FAIL]
    reasons = [reason for reason in reasons if not re.fullmatch(r"seed \d+ failed", reason)] or reasons
    if not reasons:
        return f"no trial is complete: {record.count(State.PRUNED)} of {len(record.trials)} were stopped early"
    kinds = Counter(_kind(reason) for reason in reasons)
    kind, count = kinds.most_common(1)[0]
    example = next(reason for reason in reasons if _kind(reason) == kind)
    return f"no trial is complete: {count} of {len(record.trials)} failed with: {' '.join(example.split())}"


def _kind(reason: str) -> str:
    """A reason without its numbers: at which step a loss became infinite makes no other reason."""
    return re.sub(r"\d[\d.,e+-]*", "#", reason)
