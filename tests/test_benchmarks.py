"""Each script in ``benchmarks/`` starts, and reads no option that it does not have."""

import argparse
import ast
import runpy
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parent.parent / "benchmarks"
SCRIPTS = [file for file in sorted(FOLDER.glob("*.py")) if "__main__" in file.read_text()]


class Started(BaseException):
    """The script has imported everything and reads its command line."""


def names_of_options(tree):
    """Variables that hold what ``parse_args`` returned."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and ast.unparse(node.value).endswith(".parse_args()"):
            yield node.targets[0].id


def options_read(tree):
    names = set(names_of_options(tree))
    return {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and (ast.unparse(node.value) in names or ast.unparse(node.value).endswith(".parse_args()"))
    }


@pytest.mark.whole  # it imports torch and ray
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_a_benchmark_starts_and_has_the_options_that_it_reads(script, monkeypatch):
    known = set()

    def parse_args(parser, *_):
        known.update(action.dest for action in parser._actions)
        raise Started

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_args)
    monkeypatch.syspath_prepend(FOLDER)
    with pytest.raises(Started):
        runpy.run_path(str(script), run_name="__main__")
    read = options_read(ast.parse(script.read_text()))
    assert read
    assert read <= known


@pytest.mark.whole  # it imports what most tests do not need
def test_the_control_of_a_small_sweep_is_measured_in_all_its_parts(monkeypatch, capsys):
    monkeypatch.syspath_prepend(FOLDER)
    monkeypatch.setattr("sys.argv", ["control.py", "--candidates", "60", "--workers", "20"])
    runpy.run_path(str(FOLDER / "control.py"), run_name="__main__")
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("60 trials, ") for line in lines)
    last = [line.split() for line in lines if line.strip()[:1].isdigit() and "trials" not in line][-1]
    assert int(last[0]) >= 54
    assert all(float(cell) > 0 for cell in last[1:8])  # milliseconds; the parts behind these take less than 0.005
