"""The paper's tables from a sweep's trials, beside its own figures: for the terminal, and as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

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
_CLAIM_HEADINGS = ("verdict", "claim", "figures", "p", "Holm")
_STYLES = {"holds": "green", "does not hold": "red", "not shown": "yellow", "not run": "dim"}


@dataclass(frozen=True)
class _Grid:
    """A titled table of texts, before it is rendered."""

    title: str
    headings: tuple[str, ...]
    rows: list[tuple[str, ...]]


def paper_report(record: SweepRecord) -> RenderableType:
    """Tables and verdicts for the terminal.

    Raises:
        UserError: The sweep is not one over the paper's methods.
    """
    parts: list[RenderableType] = []
    for grid in _grids(record):
        table = Table(title=grid.title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
        for heading in grid.headings:
            table.add_column(heading, justify="left" if heading == grid.headings[0] else "right")
        for row in grid.rows:
            table.add_row(*row)
        parts.append(table)
    verdicts = Table(title="The paper's claims in this run", title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for heading in _CLAIM_HEADINGS:
        verdicts.add_column(heading, overflow="fold")
    family = ""
    for claim in claims(record):
        if family and claim.family != family:
            verdicts.add_section()
        family = claim.family
        verdict, *cells = _claim_row(claim)
        verdicts.add_row(Text(verdict, style=_STYLES[claim.verdict]), *cells)
    return Group(*parts, verdicts, Text(_footnote(record)))


def paper_markdown(record: SweepRecord) -> str:
    """The same as Markdown.

    Raises:
        UserError: The sweep is not one over the paper's methods.
    """
    parts = [f"# {record.name}: the paper's tables and claims", f"`{record.header.command}`"]
    parts += [f"## {grid.title}\n\n" + _markdown(grid.headings, grid.rows) for grid in _grids(record)]
    rows = [_claim_row(claim) for claim in claims(record)]
    parts += ["## Claims\n\n" + _markdown(_CLAIM_HEADINGS, rows), _footnote(record)]
    return "\n\n".join(parts) + "\n"


def _claim_row(claim: Claim) -> tuple[str, ...]:
    return claim.verdict, claim.text, claim.evidence, _p(claim.p), _p(claim.corrected)


def _p(value: float | None) -> str:
    if value is None:
        return "·"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _grids(record: SweepRecord) -> list[_Grid]:
    rows, metrics = named_rows(record), astuple(columns(record))
    measured = [(heading, metric) for heading, metric in zip(_HEADINGS, metrics, strict=True) if metric is not None]
    headings = ("method", *(heading for heading, _ in measured), "τ at the end")
    grids = []
    for title, belongs in _TABLES.items():
        names = sorted((name for name in rows if belongs(name)), key=_order)
        ours = [(name, *(_cell(rows[name], h, m) for h, m in measured), _tau(rows[name])) for name in names]
        grids.append(_Grid(f"{title}: this run", headings, ours))
        theirs = [(name, *map(_published, _HEADINGS, PUBLISHED[name])) for name in names if name in PUBLISHED]
        if theirs:
            grids.append(_Grid(f"{title}: the paper (MSCOCO, RN50)", ("method", *_HEADINGS), theirs))
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


def _footnote(record: SweepRecord) -> str:
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
