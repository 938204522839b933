"""The command line as a user meets it: what it prints, its exit codes, and how it refuses bad input."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support import SMALL, cpu_seconds, write_yaml

from gaptune.cli import main
from gaptune.data.scenes import make_scenes

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_scenes(tmp_path_factory.mktemp("cli") / "small", SMALL).path


@pytest.fixture
def gaptune(capsys, monkeypatch):
    """Runs the command line in this process; gives its exit code, output and errors."""

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["gaptune", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            main()
        captured = capsys.readouterr()
        return stop.value.code, captured.out, captured.err

    return run


def test_help_is_quick():
    def asked():
        subprocess.run([sys.executable, "-m", "gaptune.cli", "--help"], check=True, capture_output=True)

    assert min(cpu_seconds(asked) for _ in range(5)) < 0.5


def test_a_dry_run_shows_the_plan_and_starts_nothing(gaptune, tmp_path, store):
    space, sweep = write_yaml(tmp_path, store, trials=7)
    code, out, _ = gaptune("sweep", space, "--on", sweep, "--dry-run", "--results", tmp_path / "r", "--name", "x")
    assert code == 0
    for part in ("7, sampler RandomSampler", "retrieval/mean_r10", "192", "temperature.tau_start", "tried first"):
        assert part in out
    assert not (tmp_path / "r").exists()


def test_trials_and_concurrency_override_the_yaml(gaptune, tmp_path, store):
    space, sweep = write_yaml(tmp_path, store)
    code, out, _ = gaptune("sweep", space, "--on", sweep, "--dry-run", "--trials", 3, "--concurrency", 1)
    assert code == 0
    assert "trials     3," in out


@pytest.mark.parametrize("name", ["temp", "parameterization", "swap", "methods", "paper"])
def test_every_shipped_space_is_shown_and_runs_on_the_default_sweep(gaptune, name):
    code, out, _ = gaptune("space", "show", f"search_spaces/{name}.yaml", "--draws", 2)
    assert code == 0
    assert f"search space {name}" in out
    code, out, _ = gaptune("sweep", f"{name}.yaml", "--dry-run")
    assert code == 0
    assert ("21" if name == "paper" else "16") in out


@pytest.mark.parametrize("name", ["embedded", "flickr8k", "coco_rn50"])
def test_every_shipped_sweep_is_valid(name):
    from gaptune.config import load_sweep_config
    from gaptune.models import check_model

    check_model(load_sweep_config(ROOT / f"sweeps/{name}.yaml").model)


def bad(tmp_path, store, *, space="", sweep=None):
    space_file, sweep_file = write_yaml(tmp_path, store)
    space_file.write_text(space or space_file.read_text())
    if sweep is not None:
        old, new = sweep
        assert old in sweep_file.read_text()
        sweep_file.write_text(sweep_file.read_text().replace(old, new))
    return "sweep", space_file, "--on", sweep_file, "--results", tmp_path / "r"


@pytest.mark.parametrize(
    ("change", "where", "gist"),
    [
        ({"space": "knobs:\n  temperature.tau_ens: 0.1\n"}, "small.yaml:2", "did you mean 'temperature.tau_end'"),
        ({"space": "knobs:\n  swap.probability: {uniform: [0.1, 2]}\n"}, "small.yaml:2", "less than or equal to 1"),
        ({"space": "knobs:\n  seed: 0\n  optimizer.lr: {uniform: [1, 0.1]}\n"}, "small.yaml:3", "not below"),
        ({"sweep": ("epochs: 2", "epochs: two")}, "sweep.yaml:4", "integer"),
        ({"sweep": ("retrieval/mean_r10", "retrieval/mean_r7")}, "sweep.yaml:6", "did you mean 'retrieval/mean_r"),
        ({"sweep": ("scenes-tiny", "scenes-tony")}, "", "did you mean 'scenes-tiny'"),
        ({"sweep": ("store: ", "store: /no/such")}, "", "no such store: /no/such"),
        ({"sweep": ("sampler: random", "sampler: grid")}, "small.yaml", "grid: true"),
    ],
)
def test_bad_input_is_one_line_with_its_place_and_nothing_is_written(gaptune, tmp_path, store, change, where, gist):
    code, out, err = gaptune(*bad(tmp_path, store, **change))
    assert code == 2
    assert out == ""
    assert len(err.splitlines()) == 1
    assert where in err
    assert gist in err
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(
    ("words", "gist"),
    [
        (("sweep", "no-such.yaml"), "no such file: no-such.yaml"),
        (("sweep", "search_spaces/temp.yaml", "--trials", "0"), "0 is not in the range"),
        (("train", "--method", "FTL"), "did you mean 'FLT'"),
        (("train", "--set", "temperature.tau_strat=0.1"), "did you mean 'temperature.tau_start'"),
        (("train", "--set", "oops"), "expected KNOB=VALUE"),
        (("train", "--set", "swap.probability=2"), "less than or equal to 1"),
        (("data", "info", "nowhere"), "no such store: nowhere"),
        (("ui", "--results", "nowhere"), "there is no mlflow.db"),
        (("sweeep",), "sweeep"),
    ],
)
def test_bad_words_are_refused_with_exit_code_2(gaptune, words, gist):
    code, _, err = gaptune(*words)
    assert code == 2
    assert gist in err
    assert "Traceback" not in err


def test_train_prints_an_epoch_a_line_and_goes_on_from_its_checkpoints(gaptune, tmp_path, store):
    _, sweep = write_yaml(tmp_path, store)
    words = ("train", "--method", "TS S3", "--on", sweep, "--out", tmp_path / "out")
    code, out, _ = gaptune(*words)
    assert code == 0
    lines = out.splitlines()
    assert lines[0].split()[:3] == ["epoch", "loss", "tau"]
    assert [line.split()[0] for line in lines[1:3]] == ["1", "2"]
    assert any(line.startswith("probe/accuracy ") for line in lines[4:])
    assert lines[2].split()[2] == "0.0500"
    code, again, _ = gaptune(*words)
    assert code == 0
    assert again.splitlines()[1:] == lines[2:]  # only the last report, from the checkpoint


def test_a_training_that_diverges_says_so_with_exit_code_1(gaptune, tmp_path, store):
    _, sweep = write_yaml(tmp_path, store)
    code, _, err = gaptune("train", "--on", sweep, "--set", "optimizer.lr=1e30", "--set", "optimizer.warmup=0")
    assert code == 1
    assert "non-finite" in err


def test_status_and_sync_follow_a_sweep_from_its_ledger(gaptune, tmp_path):
    from mlflow import MlflowClient
    from support import Stage

    scores = {"retrieval/mean_r1": 0.5, "geometry/gap": 1.0, "temperature/tau": 0.07}
    stage = Stage(tmp_path / "s")
    for number in range(3):
        stage.conductor.next_trial()
        stage.conductor.started(number, "here")
        stage.conductor.reported(number, 1, 1, scores)
    stage.conductor.reported(0, 2, 2, scores)
    stage.conductor.failed(1, "exception: ValueError: x")
    code, out, _ = gaptune("status", "s", "--results", tmp_path)
    assert code == 0
    for part in ("s is running", "exception: ValueError: x", "1/2", "Pareto front of s", "1 COMPLETE, 1 FAIL"):
        assert part in out
    stage.ledger.close()
    assert "its driver was killed" in gaptune("status", "s", "--results", tmp_path)[1]

    code, out, _ = gaptune("sync", "s", "--results", tmp_path)
    assert code == 0
    assert "3 trials are in MLflow" in out
    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}")
    runs = client.search_runs([client.get_experiment_by_name("gaptune").experiment_id])
    assert len(runs) == 4
    code, _, err = gaptune("status", "z", "--results", tmp_path)
    assert code == 2
    assert "no sweep 'z'" in err


def test_data_info_and_verify(gaptune, store):
    code, out, _ = gaptune("data", "info", store, "--verify")
    assert code == 0
    assert "192" in out


def test_coco_is_built_from_its_options(gaptune, tmp_path):
    import json

    from PIL import Image

    for split, count in (("train", 3), ("val", 2)):
        (tmp_path / split).mkdir()
        images = [{"id": n, "file_name": f"{n}.png"} for n in range(count)]
        for image in images:
            Image.new("RGB", (40, 30), (image["id"] * 50, 0, 0)).save(tmp_path / split / image["file_name"])
        captions = [{"id": n, "image_id": n, "caption": f"a picture number {n}"} for n in range(count)]
        (tmp_path / f"{split}.json").write_text(json.dumps({"images": images, "annotations": captions}))
    words = ["data", "build", "coco", "--out", tmp_path / "store", "--size", 24, "--context", 12]
    for split in ("train", "val"):
        words += ["--annotations", f"{split}={tmp_path / split}.json", "--images", f"{split}={tmp_path / split}"]
    code, out, _ = gaptune(*words)
    assert code == 0
    assert "24" in out
    code, _, err = gaptune(*words)
    assert code == 2
    assert "exists" in err
    code, _, err = gaptune("data", "build", "coco", "--annotations", "oops", "--images", "a=b", "--out", tmp_path / "x")
    assert code == 2
    assert "expected SPLIT=PATH" in err


def test_ui_serves_the_store_on_loopback_only(tmp_path, store, monkeypatch):
    (tmp_path / "mlflow.db").touch()
    seen = []
    monkeypatch.setattr(os, "execv", lambda path, words: seen.append(words))
    monkeypatch.setattr(sys, "argv", ["gaptune", "ui", "--results", str(tmp_path), "--port", "5999"])
    with pytest.raises(SystemExit):
        main()
    (words,) = seen
    assert words[words.index("--host") + 1] == "127.0.0.1"
    assert words[words.index("--port") + 1] == "5999"
    assert words[words.index("--backend-store-uri") + 1].endswith("mlflow.db")
