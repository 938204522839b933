"""What ``gaptune sweep`` and ``gaptune train`` print about GPUs on a machine that has none."""

import os

import pytest
import torch
from support import write_yaml
from warm import run, warm_workers

from gaptune.engine.machine import available_cores

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")

HIDDEN = "CUDA_VISIBLE_DEVICES is '', which hides all GPUs"


@pytest.fixture
def command(tmp_path, small_features, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    def words(more="", trials=1):
        space, config = write_yaml(tmp_path, small_features, trials=trials, epochs=1, more=more)
        return ["sweep", space, "--config", config, "--name", "s", "--results", tmp_path / "results"]

    return words


def test_the_plan_says_that_there_is_no_gpu(command, gaptune):
    code, out, _ = gaptune(*command(), "--dry-run")
    assert code == 0
    assert "each trial 1 CPU, no GPU (auto: this machine has no GPU)\n" in out


def test_the_plan_says_that_gpus_are_hidden(command, gaptune, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    code, out, _ = gaptune(*command(), "--dry-run")
    assert code == 0
    assert f"each trial 1 CPU, no GPU (auto: {HIDDEN})\n" in out


@pytest.mark.parametrize("gpu", ["1", "0.3"])
@pytest.mark.parametrize("hidden", [False, True])
def test_a_gpu_that_is_not_there_is_refused_before_the_start(gpu, hidden, command, gaptune, monkeypatch, tmp_path):
    if hidden:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    code, _, errors = gaptune(*command(f"resources: {{gpu: {gpu}}}\n"))
    why = HIDDEN if hidden else "Found no NVIDIA driver on your system"
    assert code == 2
    has = f"this machine has at most {available_cores()} CPU and 0 GPU ({why})"
    told = f"each trial needs 1 CPU and {gpu} GPU on one machine; {has}; see resources.cpu and resources.gpu"
    assert errors == f"gaptune: {told}\n"
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ("resources: {gpu: 1.5}\n", "resources.gpu: 1.5 GPUs: use a whole number, or a fraction below 1"),
        (
            "device: cuda\nresources: {gpu: 0}\n",
            "device: cuda needs a GPU for each trial, and resources.gpu gives none",
        ),
        ("device: cpu\nresources: {gpu: 1}\n", "device: cpu, but resources.gpu gives each trial 1 GPU; set it to 0"),
    ],
)
def test_what_contradicts_itself_is_refused_in_one_line(more, told, command, gaptune):
    code, _, errors = gaptune(*command(more))
    assert (code, len(errors.splitlines())) == (2, 1)
    assert told in errors


@pytest.mark.parametrize(("gpu", "told"), [("1", "device: cuda, but torch cannot use a GPU here"), ("0", None)])
def test_a_single_training_follows_the_resources(gpu, told, command, gaptune):
    config = command(f"resources: {{gpu: {gpu}}}\n")[3]
    code, _, errors = gaptune("train", "--config", config)
    assert (code, told is None or told in errors) == (2 if told else 0, True)


@pytest.mark.whole
def test_a_sweep_without_a_gpu_says_so_and_runs_on_the_cpu(command):
    done = run(*command("resources: {concurrency: 1}\n"), env=warm_workers() | {"CUDA_VISIBLE_DEVICES": ""})
    assert f"each trial gets 1 CPU, no GPU (auto: {HIDDEN})" in done.stdout.replace("\n", " ")
    assert "Traceback" not in done.stderr
    assert os.environ.get("CUDA_VISIBLE_DEVICES") is None
