"""Commands that read sweeps, on a real ledger."""

import json
import math
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import warm
from support import Stage, cpu_seconds

from gaptune.console.tables import spark
from gaptune.storage.bundled import example

pytestmark = pytest.mark.whole


@pytest.fixture
def results(tmp_path):
    for name in ("s", "t"):
        stage = Stage(tmp_path / name, num_candidates=4)
        for recall, gap in ((0.6, 1.0), (0.5, 0.3), (0.2, 0.25)):
            trial = stage.orchestrator.next_trial()
            stage.orchestrator.started(trial.number, "here")
            for epoch in (1, 2):
                scores = {"retrieval/mean_r1": recall * epoch / 2, "geometry/gap": gap, "temperature/tau": 0.07}
                stage.orchestrator.reported(trial.number, epoch, epoch, scores)
        stage.orchestrator.next_trial()
        stage.orchestrator.failed(3, "non-finite: loss")
        stage.ledger.close()
    return tmp_path


def run(results, *words, code=0):
    done = warm.run(*words, "--results", results, code=code)
    return done.stdout if code == 0 else done.stderr


def test_ls_lists_all_sweeps(results):
    rows = json.loads(run(results, "ls", "--json"))
    assert len(rows) == 2
    assert rows[0]["complete"] == 3
    assert "hypervolume" in run(results, "ls")
    assert "no sweep in" in run(results / "elsewhere", "ls")


def test_front_prints_candidates_knee_and_pick(results):
    shown = run(results, "front", "s", "--pick", "retrieval/mean_r1 within 20%, then geometry/gap")
    assert "knee: trial 1" in shown
    assert "picked: trial 1" in shown
    found = json.loads(run(results, "front", "s", "--constraint", "geometry/gap<=0.4", "--json"))
    assert [member["trial"] for member in found["front"]] == [1, 2]
    assert found["front"][0]["metrics"]["geometry/gap"] == 0.3


def test_front_accepts_other_objectives_and_refuses_unknown_names(results):
    shown = run(results, "front", "s", "--objective", "geometry/gap:max", "--objective", "retrieval/mean_r1")
    assert "no hypervolume" in shown
    assert "did you mean" in run(results, "front", "s", "--objective", "geometry/gp", "--objective", "x", code=2)
    assert "no sweep 'u'" in run(results, "front", "u", code=2)


def test_show_prints_curves_and_the_command_that_trains_the_trial_again(results):
    shown = run(results, "show", "s", "1")
    assert "gaptune train --set" in shown
    assert "▁█" in shown
    found = json.loads(run(results, "show", "s", "3", "--json"))
    assert (found["state"], found["reason"], found["reports"]) == ("FAIL", "non-finite: loss", [])
    assert "has no trial 9" in run(results, "show", "s", "9", code=2)


def test_command_of_show_describes_the_same_trial(results):
    rerun = json.loads(run(results, "show", "s", "0", "--json"))["rerun"]
    assert "temperature.schedule=constant" in rerun
    assert "training.epochs=2" in rerun
    assert "optimizer.lr=0.001" in rerun  # the schema's default, which is not that of the sweep the command starts from


def test_examples_are_read_by_name_and_never_written(tmp_path):
    shipped = {path for path in example().parent.rglob("*") if "__pycache__" not in path.parts}
    assert "hypervolume" in run(tmp_path, "front", "example")
    assert "is done" in run(tmp_path, "status", "example")
    assert "gaptune train" in run(tmp_path, "show", "example", "3")
    assert run(tmp_path, "report", "example").strip() == str(tmp_path / "example/report.html")
    assert (tmp_path / "example/report.html").stat().st_size > 1e6
    assert shipped == {path for path in example().parent.rglob("*") if "__pycache__" not in path.parts}
    assert "hypervolume" in run(tmp_path, "front", "example")
    assert "no sweep 'example'" in run(tmp_path, "confirm", "example", code=2)  # it is only to be read


@pytest.mark.slow
def test_front_of_ten_thousand_trials_takes_two_seconds(tmp_path):
    reading = runpy.run_path(str(Path(__file__).resolve().parents[2] / "benchmarks" / "reading.py"))
    (tmp_path / "many").mkdir()
    (tmp_path / "many" / "ledger.jsonl").write_bytes(reading["ledger_of"](10_000))
    found = []
    command = [sys.executable, "-m", "gaptune.cli", "front", "many", "--json", "--results", str(tmp_path)]
    seconds = cpu_seconds(lambda: found.append(subprocess.run(command, capture_output=True, text=True, check=True)))
    assert seconds < 5  # 2 on an idle machine
    assert len(json.loads(found[0].stdout)["front"]) > 3


def test_export_writes_the_same_rows_as_parquet_and_csv(results):
    for ending, read in (("parquet", pd.read_parquet), ("csv", pd.read_csv)):
        path = results / f"out.{ending}"
        run(results, "export", "s", "--to", str(path))
        table = read(path)
        assert len(table) == 7  # three trials of two epochs, and one without a report
        assert table["geometry/gap"].dropna().unique().tolist() == [1.0, 0.3, 0.25]
    assert "ends with .parquet or .csv" in run(results, "export", "s", "--to", "x.json", code=2)


def test_compare_plots_fronts_and_computes_hypervolumes(results):
    rows = json.loads(run(results, "compare", "s", "t", "--json", "--plot", str(results / "c.png")))
    assert [row["front"] for row in rows] == [3, 3]
    assert rows[0]["hypervolume"] == rows[1]["hypervolume"] > 0
    assert (results / "c.png").stat().st_size > 10_000


def test_export_of_a_sweep_without_trials_has_the_columns(tmp_path):
    Stage(tmp_path / "s").ledger.close()
    run(tmp_path, "export", "s", "--to", str(tmp_path / "x.csv"))
    assert "trial" in pd.read_csv(tmp_path / "x.csv").columns
    run(tmp_path, "export", "s", "--to", str(tmp_path / "x.parquet"))
    assert "trial" in pd.read_parquet(tmp_path / "x.parquet").columns
    assert "it has none yet" in run(tmp_path, "show", "s", "0", code=2)


def test_example_keeps_the_name_of_the_command_line(tmp_path):
    assert "Pareto front of example" in run(tmp_path, "front", "example")
    assert json.loads(run(tmp_path, "compare", "example", "--json"))[0]["name"] == "example"


@pytest.mark.parametrize("reason", ["cannot read [/data/1.jpg]", "[enforce fail at alloc.cpp:117] err == 0"])
def test_reason_is_printed_unchanged(tmp_path, reason):
    stage = Stage(tmp_path / "s")
    stage.orchestrator.next_trial()
    stage.orchestrator.failed(0, reason)
    stage.ledger.close()
    for command in (["status", "s"], ["failures", "s"], ["show", "s", "0"]):
        assert reason in " ".join(run(tmp_path, *command).split())


def completed(words, **more):
    """The words that bash offers for the last word."""
    env = os.environ | {"_GAPTUNE_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    code = "import sys; from gaptune.cli import main; sys.argv = ['gaptune']; main()"  # as the installed command does
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env | more)
    assert (done.returncode, done.stderr) == (0, "")
    return [line.partition(",")[2] for line in done.stdout.split()]


@pytest.mark.parametrize("command", ["front", "compare s", "status", "importance", "confirm", "sync", "transfer"])
def test_shell_completes_sweep_names(results, command):
    examples = ["example", "example-paper", "example-paper-features"]
    shipped = [] if command in ("confirm", "sync", "transfer") else examples
    assert completed(f"gaptune {command} --results {results} ") == [*shipped, "s", "t"]
    assert completed(f"gaptune {command} t", GAPTUNE_RESULTS=str(results)) == ["t"]


def test_shell_completes_trial_numbers(results):
    assert completed("gaptune show s ", GAPTUNE_RESULTS=str(results)) == ["0", "1", "2", "3"]
    assert completed("gaptune transfer s 2", GAPTUNE_RESULTS=str(results)) == ["2"]
    assert completed("gaptune show nobody ", GAPTUNE_RESULTS=str(results)) == []


def test_shell_completes_included_spaces_and_sweep_configs():
    assert completed("gaptune sweep te") == ["te", "temp"]  # the first is the word itself, for files
    assert {"temp", "paper"} <= set(completed("gaptune space show "))
    assert "flickr8k" in completed("gaptune sweep temp --config f")


def test_shell_completes_notebooks():
    assert completed("gaptune notebook ") == ["dynamics", "front", "paper"]
    assert completed("gaptune notebook f") == ["front"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_line_for_the_startup_file_of_a_shell_prints_a_script(shell):
    code = "import sys; from gaptune.cli import main; sys.argv = ['gaptune']; main()"
    env = os.environ | {"_GAPTUNE_COMPLETE": f"{shell}_source"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env)
    assert "_gaptune_completion" in done.stdout


def test_nan_is_null_in_json(results):
    words = "--objective", "retrieval/mean_r1", "--objective", "geometry/gap:max", "--json"
    found = json.loads(run(results, "front", "s", *words), parse_constant=pytest.fail)
    assert found["hypervolume"] is None
    json.loads(run(results, "compare", "s", "t", *words), parse_constant=pytest.fail)


def test_status_prints_json(results):
    found = json.loads(run(results, "status", "s", "--json"))
    assert found["state"] == "stopped"
    assert found["trials"] == {"COMPLETE": 3, "FAIL": 1}
    assert found["front"] == [0, 1, 2]
    assert found["under_way"] == []


def test_failures_lists_reasons_and_trials(results):
    assert "non-finite: loss" in run(results, "failures", "s")
    (found,) = json.loads(run(results, "failures", "s", "--json"))["failures"]
    assert (found["state"], found["trials"]) == ("FAIL", [3])
    assert "no failed or stopped trials" in run(results, "failures", "example")


def test_importance_prints_fractions_and_their_reasons_if_unknown(results):
    found = json.loads(run(results, "importance", "example", "--json"))
    of_gap = {one["parameter"]: one["fraction"] for one in found["importance"] if "uniformity" in one["objective"]}
    assert sum(of_gap.values()) == pytest.approx(1)
    assert found["unknown"] == {}
    assert "temperature.tau_start" in run(results, "importance", "example", "--fanova")
    assert "geometry/gap: no importance, because only 3 candidates are complete" in run(results, "importance", "s")
    assert json.loads(run(results, "importance", "s", "--json"))["unknown"]["geometry/gap"]["why"] == "too_few"


def test_importance_uses_other_objectives(results):
    words = "--objective", "geometry/gap", "--objective", "retrieval/mean_r10"
    found = json.loads(run(results, "importance", "example", *words, "--json"))["importance"]
    assert {one["objective"] for one in found} == {"geometry/gap", "retrieval/mean_r10"}


def test_correlations_prints_intervals_and_reasons_if_unknown(results):
    found = json.loads(run(results, "correlations", "example", "--json"))["correlations"]
    assert all(one["low"] <= one["rho"] <= one["high"] for one in found)
    assert "95% intervals" in run(results, "correlations", "example")
    assert "no correlation, because" in run(results, "correlations", "s")


def test_compare_and_front_write_plots(results):
    run(results, "compare", "s", "t", "--repeats", "--plot", str(results / "band.png"))
    run(results, "front", "s", "--constraint", "geometry/gap<=0.4", "--plot", str(results / "view.png"))
    for name in ("band.png", "view.png"):
        assert (results / name).read_bytes().startswith(b"\x89PNG")
    assert "--repeats requires --plot FILE" in run(results, "compare", "s", "t", "--repeats", code=2)
    assert "no trial with method 'FTL'" in run(results, "importance", "s", "--method", "FTL", code=2)


def test_long_curve_keeps_its_shape_and_its_end():
    assert len(spark([float(value) for value in range(500)])) <= 40
    assert spark([float(value) for value in range(500)])[-1] == "█"
    assert spark([0.0] * 99 + [1.0])[-2:] == "▁█"
    assert spark([math.nan, math.nan]) == ""
