"""The page: the sweep's content, the style, the script and Plotly, put together into one file."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from gaptune.ledger import SweepRecord
from gaptune.report.content import content
from gaptune.storage.atomic import written_whole
from gaptune.text.markup import for_html

REPORT_FILE = "report.html"

_SCRIPTS = ("data", "filter", "charts", "scatters", "curves", "params", "search", "table", "details", "page")
"""In the order in which the page runs them, as one script."""


def write_report(record: SweepRecord, folder: Path, out: Path, *, mlflow_url: str, price: float | None = None) -> None:
    """Writes the report of a sweep, finished or not.

    Args:
        record: The sweep, or a view of it.
        folder: Its folder, for samples of embeddings and the ids of its MLflow runs.
        out: The HTML file to write, in one step.
        mlflow_url: Where MLflow's pages are, for the links to its runs.
        price: Of a GPU-hour, or of a core-hour where trials have no GPU; None to leave money out.

    Raises:
        UserError: The file cannot be written.
        OSError: The disk is full.
    """
    told = content(record, folder, mlflow_url=mlflow_url, price=price)
    here = files("gaptune.report")
    page = Template((here / "page.html").read_text(encoding="utf-8")).substitute(
        title=for_html(record.name),
        style=(here / "page.css").read_text(encoding="utf-8"),
        plotly=(files("plotly") / "package_data" / "plotly.min.js").read_text(encoding="utf-8"),
        data=_script_safe(told),
        script="\n".join((here / "script" / f"{name}.js").read_text(encoding="utf-8") for name in _SCRIPTS),
    )
    with written_whole(out) as place:
        place.write_text(page, encoding="utf-8")


def _script_safe(value: Any) -> str:
    """JSON that cannot end the script element that it stands in."""
    text = json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    return text.replace("<", "\\u003c")
