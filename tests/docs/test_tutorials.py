"""Every block of the tutorials runs, in order, as a reader would run it.

With GAPTUNE_SOAK=full as it is, else with gaptune already imported, on a Ray that others use, too, the first sweep
with a smaller sweep config, and those of heads with fewer epochs.
"""

import os
import re
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from support import pages_of
from warm import program

FULL = os.environ.get("GAPTUNE_SOAK") == "full"
TUTORIALS = Path(__file__).resolve().parents[2] / "docs/tutorials"
SMALLER = """
model: {{name: scenes-tiny}}
data: {{store: {store}}}
training: {{epochs: 2, batch_size: 64}}
objectives:
  - {{metric: retrieval/mean_r1, reference: 0.0, ideal: 0.5}}
  - {{metric: uniformity/wang_isola, reference: 0.0, ideal: -4.0}}
search: {{sampler: tpe, candidates: 16, startup_trials: 8, seed: 0}}
"""
MANY_EPOCHS = re.compile(r"epochs: [12]0,")
BLOCK = re.compile(r"^```(?P<kind>\w+)(?: title=\"(?P<title>[^\"]+)\")?\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE)


def blocks(page):
    found = [(each["kind"], each["title"], each["text"]) for each in BLOCK.finditer((TUTORIALS / page).read_text())]
    assert len(found) == (TUTORIALS / page).read_text().count("```") / 2
    return found


class Reader:
    """Somebody in an empty directory who runs what a page says, on a Ray unless their computer starts its own."""

    def __init__(self, folder, ray=None):
        self.folder = folder
        programs = folder / "programs"
        programs.mkdir()
        opener = programs / "xdg-open"  # in place of the desktop's browser
        opener.write_text(f'#!/bin/sh\necho "$1" >> {folder}/opened\n')
        opener.chmod(0o755)
        path = os.pathsep.join([str(programs), str(Path(sys.executable).parent), os.environ["PATH"]])
        if not FULL:
            program(programs)
        self.env = {name: value for name, value in os.environ.items() if not name.startswith(("GAPTUNE_R", "MLFLOW_"))}
        self.env |= {"PATH": path, "OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0"}
        self.env |= {} if ray is None else {"RAY_ADDRESS": ray}

    def does(self, kind, title, text):
        if kind == "yaml":
            (self.folder / title).write_text(text if FULL else MANY_EPOCHS.sub("epochs: 5,", text))
        elif text.strip() == "gaptune ui":
            self.opens_the_ui()
        else:
            program = ["bash", "-euo", "pipefail", "-c"] if kind == "bash" else [sys.executable, "-c"]
            done = subprocess.run([*program, text], cwd=self.folder, env=self.env, capture_output=True, text=True)
            assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
            return done.stdout
        return ""

    def opens_the_ui(self):
        with pages_of(self.folder / "results", self.env, anew=FULL) as address:
            assert b"<title>MLflow</title>" in urllib.request.urlopen(address).read()


@pytest.fixture
def reader(tmp_path, request):
    return Reader(tmp_path, None if FULL else request.getfixturevalue("ray_address"))


@pytest.mark.slow
@pytest.mark.soak
@pytest.mark.timeout(1500)
def test_the_first_sweep_runs_as_written(reader, small_store):
    if not FULL:
        (reader.folder / "embedded.yaml").write_text(SMALLER.format(store=small_store))
    printed = [reader.does(*block) for block in blocks("first-sweep.md")]
    report = reader.folder / "results/first/report.html"
    assert report.stat().st_size > 1e6
    assert (reader.folder / "opened").read_text().strip().endswith("report.html")
    assert "picked: trial" in "".join(printed)
    assert "5 COMPLETE" in reader.does("bash", None, "gaptune status first")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_tutorial_on_own_data_runs_as_written(reader):
    printed = [reader.does(*block) for block in blocks("own-data.md")]
    assert "zeroshot/top1" in printed[-1]
    assert "2 COMPLETE" in reader.does("bash", None, "gaptune status my-data")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_tutorial_on_features_runs_as_written(reader):
    absent = str(Path(__file__).parents[1] / "absent")  # a tower needs one of these packages
    path = reader.env["PYTHONPATH"].split(os.pathsep)
    reader.env["PYTHONPATH"] = os.pathsep.join(folder for folder in path if folder != absent)
    printed = [reader.does(*block) for block in blocks("features.md")]
    assert "96 numbers" in printed[1]
    assert "8 COMPLETE" in reader.does("bash", None, "gaptune status heads")
    assert (reader.folder / "exported/heads.safetensors").exists()
    assert "1,280 numbers" in reader.does("bash", None, "gaptune data info photos-features")
