"""Generated tables agree with the code, every page is linked, and the site builds."""

import re
import runpy
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from gaptune.config import parameter_fields
from gaptune.space.methods import METHODS

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(DOCS).as_posix())
def test_tables_agree_with_the_code(page):
    generate = runpy.run_path(str(ROOT / "docs/generate.py"))
    text = page.read_text()
    assert generate["renewed"](text) == text, "run: python docs/generate.py"


def test_every_generated_table_is_on_a_page():
    together = "".join(page.read_text() for page in PAGES)
    for name in runpy.run_path(str(ROOT / "docs/generate.py"))["TABLES"]:
        assert f"<!-- table: {name} -->" in together


@pytest.mark.parametrize("name", parameter_fields())
def test_every_parameter_is_documented_with_its_meaning(name):
    lines = (DOCS / "reference/search-space.md").read_text().splitlines()
    row = next(line for line in lines if f"`{name}`" in line)
    assert len(row.split(" | ")[-1]) > 10


@pytest.mark.parametrize("method", METHODS)
def test_every_method_is_documented(method):
    text = (ROOT / "docs/guides/search-spaces.md").read_text()
    assert f"`{method}`" in text or (method.startswith("TS S") and "`TS S0` … `TS S3`" in text)


def test_the_readme_links_every_page_and_every_linked_page_exists():
    readme = (ROOT / "README.md").read_text()
    for page in PAGES:
        assert f"({page.relative_to(ROOT).as_posix()})" in readme
    for line in readme.splitlines():
        if line.startswith("| ["):
            assert (ROOT / line.split("](")[1].split(")")[0]).exists()


@pytest.mark.whole
def test_the_site_builds_without_a_warning_and_has_every_page(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for page in PAGES:
        assert (tmp_path / "site" / page.relative_to(DOCS).with_suffix("") / "index.html").exists()
    assert "Quick start" in (tmp_path / "site/index.html").read_text()


def test_the_design_page_lists_the_layers_of_import_linter():
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = [layer.replace("gaptune.", "").split(" | ") for layer in contracts[0]["layers"]]
    rows = re.findall(r"^\| (`.*`) \|", (DOCS / "reference/design.md").read_text(), re.MULTILINE)
    assert [re.findall(r"`(\w+)`", row) for row in rows] == layers


def test_every_page_of_the_site_is_in_its_navigation():
    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
    listed = [
        name
        for section in config["nav"]
        for entry in section.values()
        for name in ([entry] if isinstance(entry, str) else entry)
    ]
    assert {page.relative_to(DOCS).as_posix() for page in PAGES} <= set(listed)


@pytest.mark.whole
def test_the_site_loads_nothing_from_other_hosts(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(tmp_path / "site")]
    subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    text = (tmp_path / "site/index.html").read_text()
    assert 'src="http' not in text
    assert 'rel="stylesheet" href="http' not in text
