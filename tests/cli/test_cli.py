"""Commands that run things: their output, their exit codes, and how they refuse invalid input."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support import SMALL, write_yaml

from gaptune.cli import main
from gaptune.data.scenes import make_scenes

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_scenes(tmp_path_factory.mktemp("cli") / "small", SMALL).path


def test_dry_run_prints_the_plan_and_starts_nothing(gaptune, tmp_path, store):
    space, sweep = write_yaml(tmp_path, store, trials=7)
    code, out, _ = gaptune("sweep", space, "--config", sweep, "--dry-run", "--results", tmp_path / "r", "--name", "x")
    assert code == 0
    for part in (
        "7 candidates, sampler RandomSampler",
        "retrieval/mean_r10",
        "192",
        "temperature.tau_start",
        "points to evaluate",
    ):
        assert part in out
    assert not (tmp_path / "r").exists()


def test_candidates_and_concurrency_override_the_sweep_config(gaptune, tmp_path, store):
    space, sweep = write_yaml(tmp_path, store)
    code, out, _ = gaptune("sweep", space, "--config", sweep, "--dry-run", "--candidates", 3, "--concurrency", 1)
    assert code == 0
    assert "search     3 candidates," in out


@pytest.mark.parametrize("name", ["temp", "parameterization", "swap", "methods", "paper"])
def test_every_included_space_works_with_the_default_sweep_config(gaptune, name):
    code, out, _ = gaptune("space", "show", f"search_spaces/{name}.yaml", "--samples", 2)
    assert code == 0
    assert f"search space {name}" in out
    code, out, _ = gaptune("sweep", f"{name}.yaml", "--dry-run")
    assert code == 0
    assert ("21" if name == "paper" else "16") in out


@pytest.mark.parametrize("name", ["embedded", "flickr8k", "coco_rn50"])
def test_every_included_sweep_config_is_valid(name):
    from gaptune.config import load_sweep_config
    from gaptune.config.models import check_model

    check_model(load_sweep_config(ROOT / f"sweeps/{name}.yaml").model)


def bad(tmp_path, store, *, space="", sweep=None):
    space_file, sweep_file = write_yaml(tmp_path, store)
    space_file.write_text(space or space_file.read_text())
    if sweep is not None:
        old, new = sweep
        assert old in sweep_file.read_text()
        sweep_file.write_text(sweep_file.read_text().replace(old, new))
    return "sweep", space_file, "--config", sweep_file, "--results", tmp_path / "r"


@pytest.mark.parametrize(
    ("change", "where", "gist"),
    [
        ({"space": "params:\n  temperature.tau_ens: 0.1\n"}, "small.yaml:2", "did you mean 'temperature.tau_end'"),
        ({"space": "params:\n  swap.probability: {uniform: [0.1, 2]}\n"}, "small.yaml:2", "expected at most 1, got 2"),
        ({"space": "params:\n  seed: 0\n  optimizer.lr: {uniform: [1, 0.1]}\n"}, "small.yaml:3", "must be less than"),
        ({"sweep": ("epochs: 2", "epochs: two")}, "sweep.yaml:4", "integer"),
        ({"sweep": ("retrieval/mean_r10", "retrieval/mean_r7")}, "sweep.yaml:6", "did you mean 'retrieval/mean_r"),
        ({"sweep": ("scenes-tiny", "scenes-tony")}, "", "did you mean 'scenes-tiny'"),
        ({"sweep": ("store: ", "store: /no/such")}, "", "no such store: /no/such"),
        ({"sweep": ("sampler: random", "sampler: grid")}, "small.yaml", "grid: true"),
    ],
)
def test_invalid_yaml_is_one_line_with_its_position_and_nothing_is_written(
    gaptune, tmp_path, store, change, where, gist
):
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
        (("sweep", "search_spaces/temp.yaml", "--candidates", "0"), "0 is not in the range"),
        (("train", "--method", "FTL"), "did you mean 'FLT'"),
        (("train", "--set", "temperature.tau_strat=0.1"), "did you mean 'temperature.tau_start'"),
        (("train", "--set", "oops"), "expected PARAMETER=VALUE"),
        (("train", "--set", "swap.probability=2"), "expected at most 1, got 2"),
        (("data", "info", "nowhere"), "no such store: nowhere"),
        (("ui", "--results", "nowhere"), "there is no mlflow.db"),
        (("sweeep",), "sweeep"),
    ],
)
def test_invalid_arguments_are_refused_with_exit_code_2(gaptune, words, gist):
    code, _, err = gaptune(*words)
    assert code == 2
    assert gist in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("words", "gist"),
    [
        (("sweep", "temp", "--name", ".."), "begins with a dot"),
        (("sweep", "temp", "--name", "/etc"), "it has '/'"),
        (("sweep", "temp", "--name", "a\x1b]0;x"), r"it has '\x1b'"),
        (("sweep", "temp", "--name", "n" * 260), "260 bytes"),
        (("sweep", "temp", "--name", "example"), "an example sweep has that name"),
        (("reproduce", "--name", "mlflow.db"), "MLflow's tracking store"),
        (("sweep", "temp", "--results", "/proc/none"), "cannot write to /proc/none"),
        (("sweep", "temp", "--storage", "s3:/bucket"), "cannot open s3:/bucket: expected s3://bucket"),
        (("sweep", "temp", "--storage", "file://~/x"), "cannot open file://~/x: expected file:///FULL/PATH"),
        (("sweep", "temp", "--warm-start", "nobody"), "no sweep 'nobody'"),
        (("sweep", "temp", "--results", "s3://bucket/x"), "expected a path on this machine, not a URL"),
        (("front", "../.."), "no sweep '../..'"),
        (("front", "example", "--plot", "no/x.png"), "--plot no/x.png: there is no folder no"),
        (("front", "example", "--plot", "x.txt"), "ends with .png or .svg or .pdf"),
        (("compare", "example", "--plot", "no/x.png"), "there is no folder no"),
        (("export", "example", "--to", "no/x.csv"), "there is no folder no"),
        (("report", "example", "--out", "no/x.html"), "there is no folder no"),
        (("report", "example", "--port", "999999"), "not in the range"),
        (("report", "example", "--results", "/proc/none"), "cannot write to /proc/none"),
        (("figures", "--only", "3", "--out", "/proc/none"), "cannot write to /proc/none"),
        (("train", "--out", "/proc/none"), "cannot write to /proc/none"),
        (("show", "example", "abc"), "'abc': expected the number of a trial"),
        (("front", "example", "--objective", "geometry/gap"), "two to four objectives, got only geometry/gap"),
    ],
)
def test_invalid_names_and_paths_are_refused_in_one_line_before_any_work(gaptune, tmp_path, monkeypatch, words, gist):
    monkeypatch.chdir(tmp_path)
    code, out, err = gaptune(*words)
    assert (code, out) == (2, "")
    assert gist in err
    assert err.isprintable() or set(err) - {"\n"} == {sign for sign in err if sign.isprintable()}
    assert list(tmp_path.iterdir()) == []


def test_tilde_from_the_environment_is_expanded(gaptune, tmp_path, store, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("GAPTUNE_RESULTS", "~/runs")
    monkeypatch.chdir(tmp_path)
    space, sweep = write_yaml(tmp_path, store)
    code, out, _ = gaptune("sweep", space, "--config", sweep, "--name", "s", "--dry-run")
    assert code == 0
    assert str(tmp_path / "home/runs/s") in out.replace("\n", "")
    assert not (tmp_path / "~").exists()


def run_of_example(plan, console, results, tracking_uri, address):
    """Replaces a run: the ledger of the sweep is that of the example."""
    from gaptune.ledger import load
    from gaptune.storage.bundled import example

    plan.folder.mkdir(parents=True)
    (plan.folder / "ledger.jsonl").write_bytes((example() / "ledger.jsonl").read_bytes())
    return load(plan.folder)


@pytest.mark.whole
@pytest.mark.parametrize("name", ["run[lr] 1", "a, b", "plain"])
def test_command_printed_at_the_end_of_a_sweep_can_be_pasted(gaptune, tmp_path, store, monkeypatch, name):
    monkeypatch.setattr("gaptune.cli.sweeps.run_plan", run_of_example)
    results = tmp_path / "my res [x]"
    monkeypatch.setenv("GAPTUNE_RESULTS", str(results))
    space, sweep = write_yaml(tmp_path, store)
    code, out, _ = gaptune("sweep", space, "--config", sweep, "--name", name)
    assert code == 0
    assert f"results: {results / name}\n" in out
    monkeypatch.delenv("GAPTUNE_RESULTS")
    (line,) = [line for line in out.splitlines() if line.startswith("next:")]
    command = line.removeprefix("next:").partition(", gaptune show")[0].strip()
    path = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, env=os.environ | path)
    assert done.returncode == 0, done.stderr
    assert f"Pareto front of {name}" in done.stdout


def test_resume_command_has_the_options_from_the_environment(gaptune, tmp_path, store, monkeypatch):
    import shlex
    from dataclasses import replace

    def interrupted(*given):
        return replace(run_of_example(*given), paused="interrupted")

    monkeypatch.setattr("gaptune.cli.sweeps.run_plan", interrupted)
    monkeypatch.setenv("GAPTUNE_RESULTS", str(tmp_path / "my results"))
    monkeypatch.setenv("GAPTUNE_STORAGE", f"file://{tmp_path}/far")
    space, sweep = write_yaml(tmp_path, store)
    code, out, _ = gaptune("sweep", space, "--config", sweep)
    assert code == 130
    words = shlex.split(out.splitlines()[-1].partition("To resume: ")[2])
    (folder,) = (tmp_path / "my results").iterdir()
    named = dict(zip(words[2:8:2], words[3:8:2], strict=True))
    assert named == {"--name": folder.name, "--storage": f"file://{tmp_path}/far", "--results": str(folder.parent)}
    assert words[8:] == [str(space), "--config", str(sweep)]


def test_warm_start_accepts_an_example_sweep(gaptune, tmp_path, store):
    space, sweep = write_yaml(tmp_path, store)
    words = ("--warm-start", "example", "--dry-run", "--results", tmp_path / "r")
    assert gaptune("sweep", space, "--config", sweep, *words)[0] == 0


def test_ui_reports_whether_a_server_answers(gaptune, tmp_path):
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        (tmp_path / "mlflow.db").touch()
        code, out, err = gaptune("ui", "--results", tmp_path, "--port", port)
        assert (code, out) == (2, "")
        assert f"cannot serve on port {port}" in err
    code, out, _ = gaptune("ui", "--results", tmp_path, "--tracking-uri", f"http://127.0.0.1:{port}")
    assert code == 0
    assert "no server answers at this address" in out


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("image_size", None),
        ("image_size", 0),
        ("context_length", 0),
        ("vocabulary", [None]),
        ("name", None),
        ("content_hash", 0),
        ("classes", [0]),
        ("splits", {"train": None}),
        ("source", None),
        ("features", -1),
    ],
)
def test_corrupt_metadata_of_a_store_is_one_line(gaptune, tmp_path, store, field, value):
    import json
    import shutil

    shutil.copytree(store, tmp_path / "store")
    description = tmp_path / "store" / "store.json"
    description.write_text(json.dumps(json.loads(description.read_text()) | {field: value}))
    code, _, err = gaptune("data", "info", tmp_path / "store")
    assert code == 2
    assert len(err.splitlines()) == 1
    assert "corrupt store" in err


def test_train_on_a_full_disk_is_one_line(gaptune, tmp_path, store, monkeypatch):
    import errno

    from gaptune.trial.checkpoint import Checkpoints

    def full(self, epoch, state):
        if epoch == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.folder.mkdir(exist_ok=True)

    monkeypatch.setattr(Checkpoints, "save", full)
    _, sweep = write_yaml(tmp_path, store)
    code, out, err = gaptune("train", "--config", sweep, "--out", tmp_path / "out")
    assert code == 1
    assert out.splitlines()[1].split()[0] == "1"
    assert len(err.splitlines()) == 1
    assert "is full. The previous checkpoint is kept" in err


def test_train_prints_a_line_per_epoch_and_resumes_from_its_checkpoints(gaptune, tmp_path, store):
    _, sweep = write_yaml(tmp_path, store)
    words = ("train", "--method", "TS S3", "--config", sweep, "--out", tmp_path / "out")
    code, out, _ = gaptune(*words)
    assert code == 0
    lines = out.splitlines()
    assert lines[0].split()[:3] == ["epoch", "loss", "tau"]
    assert [line.split()[0] for line in lines[1:3]] == ["1", "2"]
    assert any(line.startswith("probe/top1 ") for line in lines[4:])
    assert lines[2].split()[2] == "0.0500"
    code, again, _ = gaptune(*words)
    assert code == 0
    assert again.splitlines()[1:] == lines[2:]  # only the last report, from the checkpoint


def test_train_and_dry_run_report_images_left_out_of_each_epoch(gaptune, tmp_path, small_store):
    """The whole line, also if it is long."""
    space, sweep = write_yaml(tmp_path, small_store)
    sweep.write_text(sweep.read_text().replace("batch_size: 64", "batch_size: 65"))
    said = "each epoch leaves out 62 of 192 images (the last partial batch); training.batch_size=64 leaves out 0"
    _, out, _ = gaptune("sweep", space, "--config", sweep, "--dry-run")
    assert f"warning    {said}" in out.splitlines()
    assert f"steps of 65 pairs; {said.partition('; ')[0]}" in out
    _, _, err = gaptune("train", "--config", sweep, "--set", "training.epochs=1")
    assert err.splitlines() == [f"note: {said}"]


def test_diverging_training_is_reported_with_exit_code_1(gaptune, tmp_path, store):
    _, sweep = write_yaml(tmp_path, store)
    code, _, err = gaptune("train", "--config", sweep, "--set", "optimizer.lr=1e30", "--set", "optimizer.warmup=0")
    assert code == 1
    assert "non-finite" in err


def test_status_and_sync_read_the_ledger(gaptune, tmp_path):
    from mlflow import MlflowClient
    from support import Stage

    scores = {"retrieval/mean_r1": 0.5, "geometry/gap": 1.0, "temperature/tau": 0.07}
    stage = Stage(tmp_path / "s")
    for number in range(3):
        stage.orchestrator.next_trial()
        stage.orchestrator.started(number, "here")
        stage.orchestrator.reported(number, 1, 1, scores)
    stage.orchestrator.reported(0, 2, 2, scores)
    stage.orchestrator.failed(1, "exception: ValueError: x")
    code, out, _ = gaptune("status", "s", "--results", tmp_path)
    assert code == 0
    for part in ("s is running", "exception: ValueError: x", "1/2", "Pareto front of s", "1 COMPLETE, 1 FAIL"):
        assert part in out
    stage.ledger.close()
    assert "its driver was killed" in gaptune("status", "s", "--results", tmp_path)[1]

    code, out, _ = gaptune("sync", "s", "--results", tmp_path)
    assert code == 0
    assert "MLflow is up to date with the ledger (3 trials)" in out
    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}")
    runs = client.search_runs([client.get_experiment_by_name("gaptune").experiment_id])
    assert len(runs) == 4
    code, _, err = gaptune("status", "z", "--results", tmp_path)
    assert code == 2
    assert "no sweep 'z'" in err


def test_data_info_verifies_a_store(gaptune, store):
    code, out, _ = gaptune("data", "info", store, "--verify")
    assert code == 0
    assert "192" in out


def test_coco_store_is_built_from_options(gaptune, tmp_path):
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


def test_ui_listens_on_loopback_only(tmp_path, store, monkeypatch):
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
