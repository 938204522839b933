"""The paper's tables for a sweep, beside the paper's own figures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass

from gaptune.ledger import State, SweepRecord
from gaptune.ledger.candidate import Candidate
from gaptune.paper.claim_tests import LEVEL
from gaptune.paper.claims import Claim, claims, columns, named_rows
from gaptune.paper.published import PUBLISHED

_HEADINGS = ("gap", "−W2", "zero-shot %", "linear probe %", "image retrieval %", "text retrieval %")
_PERCENTS = _HEADINGS[2:]
_TABLES: dict[str, Callable[[str], bool]] = {
    "Methods": lambda name: not name.startswith(("FLT", "HS", "SS")) or name in ("FLT 0.04", "HS 0.001", "SS 0.05"),
    "Fixed temperature": lambda name: name.startswith("FLT"),
    "Fraction of steps with a swap": lambda name: name == "Baseline" or name.startswith(("HS", "SS")),
}
CLAIM_HEADINGS = ("verdict", "claim", "figures", "p", "Holm")


@dataclass(frozen=True)
class Grid:
    """A table of texts."""

    title: str
    headings: tuple[str, ...]
    rows: list[tuple[str, ...]]


def paper_markdown(record: SweepRecord) -> str:
    """The paper's tables and claims for a sweep, as Markdown.

    Raises:
        UserError: The sweep does not have the paper's methods.
    """
    parts = [f"# {record.name}: the paper's tables and claims", f"`{record.header.command}`"]
    parts += [f"## {grid.title}\n\n" + _markdown(grid.headings, grid.rows) for grid in grids(record)]
    rows = [claim_row(claim) for claim in claims(record)]
    parts += ["## Claims\n\n" + _markdown(CLAIM_HEADINGS, rows), footnote(record)]
    return "\n\n".join(parts) + "\n"


def claim_row(claim: Claim) -> tuple[str, ...]:
    """The cells of a claim, under ``CLAIM_HEADINGS``."""
    return claim.verdict, claim.text, claim.evidence, _p(claim.p), _p(claim.corrected)


def _p(value: float | None) -> str:
    if value is None:
        return "·"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def grids(record: SweepRecord) -> list[Grid]:
    """The tables of a sweep, each followed by the same table of the paper.

    Raises:
        UserError: The sweep does not have the paper's methods.
    """
    rows, metrics = named_rows(record), astuple(columns(record))
    measured = [(heading, metric) for heading, metric in zip(_HEADINGS, metrics, strict=True) if metric is not None]
    headings = ("method", *(heading for heading, _ in measured), "τ at the end")
    grids = []
    for title, belongs in _TABLES.items():
        names = sorted((name for name in rows if belongs(name)), key=_order)
        ours = [(name, *(_cell(rows[name], h, m) for h, m in measured), _tau(rows[name])) for name in names]
        grids.append(Grid(f"{title}: this run", headings, ours))
        theirs = [(name, *map(_published, _HEADINGS, PUBLISHED[name])) for name in names if name in PUBLISHED]
        if theirs:
            grids.append(Grid(f"{title}: the paper (MSCOCO, RN50)", ("method", *_HEADINGS), theirs))
    return grids


def _order(name: str) -> tuple[bool, float]:
    """The baseline first, and numbers of a method in their order; the rest as it comes."""
    number = name.rpartition(" ")[2]
    return name != "Baseline", float(number) if name.startswith("FLT") else 0.0


def _cell(candidate: Candidate, heading: str, metric: str) -> str:
    scale, digits = (100.0, 1) if heading in _PERCENTS else (1.0, 3)
    mean = f"{scale * candidate.mean(metric):.{digits}f}"
    return f"{mean} ± {scale * candidate.error(metric):.{digits}f}" if len(candidate.trials) > 1 else mean


def _tau(candidate: Candidate) -> str:
    return f"{candidate.mean('temperature/tau'):.3g}"


def _published(heading: str, value: float | None) -> str:
    if value is None:
        return "·"
    return f"{100 * value:.2f}" if heading in _PERCENTS else f"{value:.3f}"


def footnote(record: SweepRecord) -> str:
    """What the figures of the tables are, and which trials failed."""
    seeds = record.seeds
    retrieval = columns(record).image_retrieval.rpartition("_r")[2]
    lines = [
        f"Mean ± standard error of {seeds} paired seeds; recall@{retrieval}. p: one-sided tests over the paired seeds. "
        "Holm: p corrected for the number of claims of its family (smaller gap, better retrieval, fixed temperature, "
        f"uniformity, collapse); a claim holds where it is below {LEVEL:g}.",
    ]
    failed = [trial for trial in record.trials.values() if trial.state is State.FAIL]
    lines += [f"failed: {trial.method}, trial {trial.number}: {trial.reason}" for trial in failed]
    return "\n".join(lines)


def _markdown(headings: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [headings, ("---",) * len(headings), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
