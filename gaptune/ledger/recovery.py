"""Recovering lost lines of a ledger from the trials' own files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from gaptune.ledger.events import Damage, Event, numbers_in
from gaptune.ledger.state import State, SweepRecord
from gaptune.ledger.trial_file import read


def lost_events(record: SweepRecord, numbers: Iterable[int], content: Callable[[int], bytes | None]) -> list[Event]:
    """The events in the trials' own files that the ledger lacks.

    Args:
        record: What the ledger adds up to.
        numbers: The trials that have a folder.
        content: The file of a trial in its folder; None where there is none. Asked only for trials that the ledger
            does not know, or of which more is to be known.

    Returns:
        The events, each with ``recovered``.
    """
    events: list[Event] = []
    for number in sorted(numbers):
        trial = record.trials.get(number)
        if trial is not None and (trial.state in (State.PRUNED, State.FAIL) or len(trial.reports) >= trial.num_reports):
            continue
        kept = read(content(number) or b"")
        if not kept or kept[0]["trial"] != number or kept[0].get("sweep_id") != record.header.id:
            continue
        if trial is None:
            events.append({name: value for name, value in kept[0].items() if name != "sweep_id"})
        elif trial.config != kept[0]["config"]:
            continue
        known = {report.epoch for report in trial.reports} if trial else set()
        events += [report for report in kept[1:] if report["epoch"] not in known]
    return [{**event, "recovered": True} for event in events]


def highest_numbers(record: SweepRecord, damages: Sequence[Damage], folders: Iterable[int]) -> tuple[int, int]:
    """The highest numbers ever seen of a trial and of a candidate: none of them is given again.

    Args:
        record: What the ledger adds up to.
        damages: Its damaged lines, of now and of earlier (in ``ledger.quarantine``).
        folders: The trials that have a folder.
    """
    trial, candidate = record.highest, record.highest_candidate
    trial = max([trial, *folders])
    # Nothing had a number beyond these: each damaged line can have been a trial's own.
    trial_seen, candidate_seen = numbers_in(damages, limit=max(trial, candidate) + len(damages))
    return max(trial, trial_seen), max(candidate, candidate_seen)
