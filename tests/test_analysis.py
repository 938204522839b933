"""The notebooks are plain Python and run as such."""

import os
import runpy
from pathlib import Path

import pytest
from support import Stage

NOTEBOOKS = sorted((Path(__file__).resolve().parent.parent / "analysis").glob("*.py"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_opens_on_the_latest_sweep(path, tmp_path, monkeypatch):
    for name in ("old", "new"):
        stage = Stage(tmp_path / name)
        for number in range(2):
            stage.conductor.next_trial()
            stage.finish(number, recall=0.2 + number / 10)
        stage.ledger.close()
    os.utime(tmp_path / "old" / "ledger.jsonl", (1, 1))
    monkeypatch.setenv("GAPTUNE_RESULTS", str(tmp_path))
    _, found = runpy.run_path(str(path))["app"].run()
    assert found["choice"].value == "new"
    assert list(found["table"]["trial"]) == [1]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_a_notebook_without_any_sweep_says_what_to_do(path, tmp_path, monkeypatch):
    monkeypatch.setenv("GAPTUNE_RESULTS", str(tmp_path))
    outputs, _ = runpy.run_path(str(path))["app"].run()
    assert any("gaptune sweep" in getattr(output, "text", "") for output in outputs)
