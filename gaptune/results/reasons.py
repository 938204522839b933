"""Why trials failed."""

from __future__ import annotations

import re
from collections import Counter

from gaptune.ledger import State, SweepRecord


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
