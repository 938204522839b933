"""The docs say what the code does, and the site builds."""

import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from gaptune.config import parameter_fields
from gaptune.space.methods import METHODS

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted((ROOT / "docs").glob("*.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_tables_are_as_the_code_has_them(page):
    generate = runpy.run_path(str(ROOT / "docs/generate.py"))
    text = page.read_text()
    assert generate["renewed"](text) == text, "run: python docs/generate.py"


def test_every_generated_table_stands_on_a_page():
    together = "".join(page.read_text() for page in PAGES)
    for name in runpy.run_path(str(ROOT / "docs/generate.py"))["TABLES"]:
        assert f"<!-- table: {name} -->" in together


@pytest.mark.parametrize("parameter", parameter_fields())
def test_every_knob_is_documented_with_its_meaning(parameter):
    row = next(line for line in (ROOT / "docs/space-reference.md").read_text().splitlines() if f"`{parameter}`" in line)
    assert len(row.split(" | ")[-1]) > 10


@pytest.mark.parametrize("method", METHODS)
def test_every_method_is_documented(method):
    text = (ROOT / "docs/search-spaces.md").read_text()
    assert f"`{method}`" in text or (method.startswith("TS S") and "`TS S0` … `TS S3`" in text)


def test_every_page_of_the_map_exists_and_every_page_is_on_the_map():
    readme = (ROOT / "README.md").read_text()
    for page in PAGES:
        assert f"(docs/{page.name})" in readme
    for line in readme.splitlines():
        if line.startswith("| ["):
            assert (ROOT / line.split("](")[1].split(")")[0]).exists()


@pytest.mark.whole
def test_the_site_builds_without_a_warning_and_has_every_page(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for page in PAGES:
        assert (tmp_path / "site" / page.stem / "index.html").exists()
    assert "Two commands" in (tmp_path / "site/index.html").read_text()


def test_every_page_of_the_site_is_in_its_navigation():
    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
    listed = [
        name
        for section in config["nav"]
        for entry in section.values()
        for name in ([entry] if isinstance(entry, str) else entry)
    ]
    assert {page.name for page in PAGES} <= set(listed)


@pytest.mark.whole
def test_the_site_asks_nobody_else_for_anything(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(tmp_path / "site")]
    subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    text = (tmp_path / "site/index.html").read_text()
    assert 'src="http' not in text
    assert 'rel="stylesheet" href="http' not in text
