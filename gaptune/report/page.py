"""The page: the sweep's content, the style, the script and Plotly, put together into one file."""

from __future__ import annotations

import json
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from string import Template
from typing import Any

from gaptune.ledger import SweepRecord
from gaptune.report.content import content
from gaptune.storage.atomic import written_whole
from gaptune.text.markup import for_html

REPORT_FILE = "report.html"

_FIRST, _LAST = ("data", "filter", "charts"), ("table", "details", "page")
"""Scripts that the page runs before and after those of its sections, all as one script."""


def write_report(record: SweepRecord, folder: Path, out: Path, *, mlflow_url: str, price: float | None = None) -> None:
    """Writes the report of a sweep, finished or not.

    Args:
        record: The sweep, or a view of it.
        folder: Its folder, for samples of embeddings and the ids of its MLflow runs.
        out: The HTML file to write, in one step.
        mlflow_url: Address of the MLflow UI, for the links to runs.
        price: Price of a GPU-hour, or of a core-hour without GPUs; None to leave money out.

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
        script=_script(here / "script"),
    )
    with written_whole(out) as place:
        place.write_text(page, encoding="utf-8")


def _script(folder: Traversable) -> str:
    scripts = {file.name.removesuffix(".js"): file.read_text(encoding="utf-8") for file in folder.iterdir()}
    sections = sorted(scripts.keys() - {*_FIRST, *_LAST})
    return "\n".join(scripts[name] for name in (*_FIRST, *sections, *_LAST))


def _script_safe(value: Any) -> str:
    """JSON that cannot end the script element that it stands in."""
    text = json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    return text.replace("<", "\\u003c")
