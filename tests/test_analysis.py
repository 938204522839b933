"""The notebooks are plain Python and run as such."""

import os
import runpy
from pathlib import Path

import pytest
from click.testing import CliRunner
from support import Stage, sweep_config

from gaptune.cli import cli
from gaptune.errors import UserError
from gaptune.space.parse import parse_space

ANALYSIS = Path(__file__).resolve().parent.parent / "analysis"


def run(name):
    return runpy.run_path(str(ANALYSIS / f"{name}.py"))["app"].run()


@pytest.fixture
def results(tmp_path, monkeypatch):
    """Two sweeps, the one called new the newer one."""
    for name in ("old", "new"):
        stage = Stage(tmp_path / name)
        for number in range(2):
            stage.orchestrator.next_trial()
            stage.finish(number, recall=0.2 + number / 10)
        stage.ledger.close()
    os.utime(tmp_path / "old" / "ledger.jsonl", (1, 1))
    monkeypatch.setenv("GAPTUNE_RESULTS", str(tmp_path))


@pytest.mark.parametrize("name", ["front", "dynamics"])
def test_a_notebook_opens_on_the_latest_sweep(name, results):
    _, found = run(name)
    assert found["choice"].value == "new"


def test_the_front_is_that_of_the_sweep(results):
    _, found = run("front")
    assert list(found["table"]["trial"]) == [1]


@pytest.mark.parametrize("name", ["front", "dynamics"])
def test_notebook_without_a_sweep_opens_on_the_example(name, tmp_path, monkeypatch):
    monkeypatch.setenv("GAPTUNE_RESULTS", str(tmp_path))
    _, found = run(name)
    assert found["choice"].value == "example"
    assert len(found["table"]) > 2


@pytest.mark.whole
def test_the_papers_tables_and_figures_are_those_of_a_sweep_over_its_methods(tmp_path, monkeypatch):
    space = parse_space({"name": "methods", "params": {"method": {"choice": ["Baseline", "FLT"]}}, "grid": True})
    stage = Stage(tmp_path / "methods", space=space, num_candidates=2, sweep=sweep_config(search={"sampler": "grid"}))
    recalls = ("retrieval/i2t_r1", "retrieval/t2i_r1")
    for number in range(2):
        stage.orchestrator.next_trial()
        more = dict.fromkeys(recalls, 0.2) | {"temperature/tau": 0.05, "uniformity/w2": -0.9}
        stage.finish(number, recall=0.2 + number / 10, more=more)
    stage.ledger.close()
    monkeypatch.setenv("GAPTUNE_RESULTS", str(tmp_path))
    _, found = run("paper")
    assert found["choice"].value == "methods"
    assert "Baseline" in found["table"]
    *pictures, unmeasured = (drawn.text for drawn in found["drawn"].values())
    assert all("<img" in picture for picture in pictures)
    assert "measured neither zero-shot nor linear probe" in unmeasured


@pytest.mark.whole
def test_paper_notebook_without_a_fitting_sweep_opens_on_the_example(results):
    _, found = run("paper")
    assert found["choice"].value == "example-paper-features"
    assert "Baseline" in found["table"]
    assert all("<img" in drawn.text for drawn in found["drawn"].values())


def test_an_unknown_notebook_is_named_with_the_nearest():
    with pytest.raises(UserError, match=r"unknown notebook 'frnt' .did you mean 'front'"):
        CliRunner().invoke(cli, ["notebook", "frnt"], catch_exceptions=False)
