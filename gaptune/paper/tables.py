"""The paper's tables for a sweep, beside the paper's own figures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gaptune.ledger import State, SweepRecord
from gaptune.ledger.candidate import Candidate
from gaptune.paper.claim_tests import LEVEL
from gaptune.paper.claims import Claim, claims, columns, named_rows, swapped_steps
from gaptune.paper.photographs import outcomes_of, photographs_known
from gaptune.paper.published import PUBLISHED

_HEADINGS = ("gap", "−W2", "zero-shot %", "linear probe %", "image retrieval %", "text retrieval %")
_PERCENTS = _HEADINGS[2:]
_WITHOUT_MEANS = (
    "method", "gap", "gap after", "−W2", "−W2 after", "retrieval %", "retrieval % after", "difference",
)  # fmt: skip
_SWAPS = "Fraction of steps with a swap"
CLAIM_HEADINGS = ("verdict", "claim", "figures", "p", "Holm")


@dataclass(frozen=True)
class Grid:
    """A table of texts."""

    title: str
    headings: tuple[str, ...]
    rows: list[tuple[str, ...]]


def paper_markdown(record: SweepRecord, folder: Path | None = None) -> str:
    """The paper's tables and claims for a sweep, as Markdown.

    Args:
        record: The sweep.
        folder: Its folder, with what its trials have left.

    Raises:
        UserError: The sweep does not have the paper's methods.
    """
    parts = [f"# {record.name}: the paper's tables and claims", f"`{record.header.command}`"]
    parts += [f"## {grid.title}\n\n" + _markdown(grid.headings, grid.rows) for grid in grids(record, folder)]
    rows = [claim_row(claim) for claim in claims(record, folder)]
    parts += ["## Claims\n\n" + _markdown(CLAIM_HEADINGS, rows), footnote(record, folder)]
    return "\n\n".join(parts) + "\n"


def claim_row(claim: Claim) -> tuple[str, ...]:
    """The cells of a claim, under ``CLAIM_HEADINGS``."""
    return claim.verdict, claim.text, claim.evidence, _p(claim.p), _p(claim.corrected)


def _p(value: float | None) -> str:
    if value is None:
        return "·"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def grids(record: SweepRecord, folder: Path | None = None) -> list[Grid]:
    """The tables of a sweep, each followed by the same table of the paper.

    Args:
        record: The sweep.
        folder: Its folder, with what its trials have left.

    Raises:
        UserError: The sweep does not have the paper's methods.
    """
    rows, metrics = named_rows(record), astuple(columns(record))
    measured = [(heading, metric) for heading, metric in zip(_HEADINGS, metrics, strict=True) if metric is not None]
    headings = ("method", *(heading for heading, _ in measured), "τ at the end")
    grids = []
    for title, chosen in _chosen(rows).items():
        names = sorted(chosen, key=_order)
        more = ("swapped steps",) if title == _SWAPS else ()
        ours = [
            (
                name,
                *(_cell(rows[name], heading, metric) for heading, metric in measured),
                _tau(rows[name]),
                *(_swapped(rows[name]) for _ in more),
            )
            for name in names
        ]
        grids.append(Grid(f"{title}: this run", headings + more, ours))
        theirs = [(name, *map(_published, _HEADINGS, PUBLISHED[name])) for name in _in_the_paper(names)]
        if theirs:
            grids.append(Grid(f"{title}: the paper (MSCOCO, RN50)", ("method", *_HEADINGS), theirs))
    return [*grids, *_without_means(record, rows, folder)]


def _chosen(rows: Iterable[str]) -> dict[str, list[str]]:
    """The rows of each table."""
    fixed, swapped = ([name for name in rows if name.startswith(kinds)] for kinds in ("FLT", ("HS", "SS")))
    named = {"FLT 0.04", "SS 0.05", *_fewest_swaps(swapped)}
    return {
        "Methods": [name for name in rows if name not in {*fixed, *swapped} or name in named],
        "Fixed temperature": fixed,
        _SWAPS: [name for name in rows if name == "Baseline" or name in swapped],
    }


def _fewest_swaps(names: Iterable[str]) -> list[str]:
    """The row of hard swaps in the fewest steps, which stands for the paper's HS 0.001."""
    return sorted((name for name in names if name.startswith("HS ")), key=_number)[:1]


def _in_the_paper(names: Iterable[str]) -> list[str]:
    """The paper's rows for some rows of a sweep."""
    found = dict.fromkeys("HS 0.001" if name in _fewest_swaps(names) else name for name in names)
    return [name for name in found if name in PUBLISHED]


def _without_means(record: SweepRecord, rows: dict[str, Candidate], folder: Path | None) -> list[Grid]:
    """The table of what it does to remove each modality's mean; none where the trials have left nothing."""
    found = columns(record)
    metrics = (found.gap, found.uniformity, found.image_retrieval, found.text_retrieval)
    lines: list[tuple[str, ...]] = []
    for name in sorted({*_chosen(rows)["Methods"], "FLT 0.01"} & rows.keys(), key=list(rows).index):
        trials = rows[name].trials
        left = [one for trial in trials if (one := outcomes_of(folder, trial)) is not None]
        if len(left) == len(trials):
            before = np.array([[trial.last[metric] for metric in metrics] for trial in trials])
            after = np.array([[one.centered[metric] for metric in metrics] for one in left])
            lines.append((name, *_compared(before, after)))
    title = "After training, with each modality's mean removed: this run"
    return [Grid(title, _WITHOUT_MEANS, lines)] if lines else []


def _compared(before: npt.NDArray[np.float64], after: npt.NDArray[np.float64]) -> list[str]:
    """Gap, -W2 and mean retrieval before and after, from metrics of shape (seeds, 4)."""
    retrieval, later = before[:, 2:].mean(axis=1), after[:, 2:].mean(axis=1)
    pairs = [_mean(values[:, column]) for column in (0, 1) for values in (before, after)]
    return pairs + [_mean(values, percent=True) for values in (retrieval, later, later - retrieval)]


def _order(name: str) -> tuple[bool, float]:
    """The baseline first, and numbers of a method in their order; the rest as it comes."""
    return name != "Baseline", _number(name) if name.startswith("FLT") else 0.0


def _number(name: str) -> float:
    return float(name.rpartition(" ")[2])


def _cell(candidate: Candidate, heading: str, metric: str) -> str:
    values = np.array([trial.last.get(metric, np.nan) for trial in candidate.trials])
    return _mean(values, percent=heading in _PERCENTS)


def _mean(values: npt.NDArray[np.float64], *, percent: bool = False) -> str:
    """Mean and standard error over the seeds."""
    scale, digits = (100.0, 1) if percent else (1.0, 3)
    mean = f"{scale * values.mean():.{digits}f}"
    if len(values) == 1:
        return mean
    return f"{mean} ± {scale * values.std(ddof=1) / len(values) ** 0.5:.{digits}f}"


def _swapped(candidate: Candidate) -> str:
    steps = [swapped_steps(trial) for trial in candidate.trials]
    return f"{np.mean(steps):.0f} of {candidate.trial.reports[-1].step}"


def _tau(candidate: Candidate) -> str:
    return f"{candidate.mean('temperature/tau'):.3g}"


def _published(heading: str, value: float | None) -> str:
    if value is None:
        return "·"
    return f"{100 * value:.2f}" if heading in _PERCENTS else f"{value:.3f}"


def footnote(record: SweepRecord, folder: Path | None = None) -> str:
    """What the figures of the tables are, and which trials failed."""
    seeds = record.seeds
    retrieval = columns(record).image_retrieval.rpartition("_r")[2]
    over = "those of retrieval over photographs and seeds (in parentheses: the difference and its 95% interval)"
    if not photographs_known(folder, record):
        over = "also those of retrieval, as the trials have left no record of the photographs that were found"
    lines = [
        f"Mean ± standard error of {seeds} paired seeds; recall@{retrieval}. p: one-sided tests over the paired seeds, "
        f"{over}. Holm: p corrected for the number of claims of its family (smaller gap, better retrieval, fixed "
        f"temperature, uniformity, collapse); a claim holds where it is below {LEVEL:g}.",
    ]
    failed = [trial for trial in record.trials.values() if trial.state is State.FAIL]
    lines += [f"failed: {trial.method}, trial {trial.number}: {trial.reason}" for trial in failed]
    return "\n".join(lines)


def _markdown(headings: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [headings, ("---",) * len(headings), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
