"""The docs say what the code does."""

from pathlib import Path

import pytest

from gaptune.config import knob_fields
from gaptune.methods import METHODS
from gaptune.scores import MEASURES, SCORES

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("score", [*SCORES.values(), *MEASURES.values()], ids=lambda score: score.name)
def test_every_metric_has_its_row(score):
    row = f"| `{score.name}` | {score.unit} | {score.direction} | {score.meaning} | {score.source} |"
    assert row in (ROOT / "docs/metrics.md").read_text()


@pytest.mark.parametrize("knob", knob_fields())
def test_every_knob_is_documented(knob):
    group, _, leaf = knob.rpartition(".")
    rows = [line for line in (ROOT / "docs/search-spaces.md").read_text().splitlines() if line.startswith("|")]
    assert any(f"`{leaf}`" in row.replace(f"{group}.", "") and group in row for row in rows)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_is_documented(method):
    text = (ROOT / "docs/search-spaces.md").read_text()
    assert f"`{method}`" in text or (method.startswith("TS S") and "`TS S0` … `TS S3`" in text)


def test_every_page_of_the_map_exists_and_every_page_is_on_the_map():
    readme = (ROOT / "README.md").read_text()
    for page in (ROOT / "docs").glob("*.md"):
        assert f"(docs/{page.name})" in readme
    for line in readme.splitlines():
        if line.startswith("| ["):
            assert (ROOT / line.split("](")[1].split(")")[0]).exists()
