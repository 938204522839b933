"""The tables and claims of the paper for the terminal."""

from __future__ import annotations

from pathlib import Path

from rich.console import Group, RenderableType
from rich.text import Text

from gaptune.console import styles
from gaptune.console.tables import make_table
from gaptune.ledger import SweepRecord
from gaptune.paper.claims import claims
from gaptune.paper.tables import CLAIM_HEADINGS, claim_row, footnote, grids


def paper_report(record: SweepRecord, folder: Path | None = None) -> RenderableType:
    """The tables of the paper for a sweep, and a verdict for each claim.

    Args:
        record: A sweep of the paper's methods.
        folder: Its folder, with what its trials have left.

    Raises:
        UserError: The sweep does not have the paper's methods.
    """
    parts = [
        make_table(grid.headings, grid.rows, title=grid.title, right=grid.headings[1:])
        for grid in grids(record, folder)
    ]
    found = claims(record, folder)
    rows = []
    for claim in found:
        verdict, *cells = claim_row(claim)
        rows.append([Text(verdict, style=styles.VERDICTS[claim.verdict]), *cells])
    verdicts = make_table(CLAIM_HEADINGS, rows, title="The paper's claims in this run")
    for row, claim, following in zip(verdicts.rows, found, found[1:], strict=False):
        row.end_section = claim.family != following.family
    return Group(*parts, verdicts, Text(footnote(record, folder)))
