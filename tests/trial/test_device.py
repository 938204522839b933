"""Which device a trial uses, why there is none, and that its settings end with it."""

import os

import pytest
import torch

from gaptune.config.trial import TrainingConfig
from gaptune.trial.device import NoGpuError, cuda_problem, full_precision, numerics, pick_device
from gaptune.trial.embed import evaluating

CUDA, CPU = torch.device("cuda"), torch.device("cpu")
without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
TOO_OLD = (
    "The NVIDIA driver on your system is too old (found version 11040). Please update your GPU driver by downloading "
    "and installing a new version from the URL: http://www.nvidia.com/Download/index.aspx Alternatively, go to: "
    "https://pytorch.org to install a PyTorch version that has been compiled with your version of the CUDA driver."
)
NOT_SUPPORTED = (
    "Unexpected error from cudaGetDeviceCount(). Did you run some cuda functions before calling NumCudaDevices() that "
    "might have already set an error? Error 804: forward compatibility was attempted on non supported HW"
)


def flags():
    backends = torch.backends
    return (
        torch.get_float32_matmul_precision(),
        backends.cudnn.allow_tf32,
        backends.cudnn.deterministic,
        backends.cudnn.benchmark,
        torch.are_deterministic_algorithms_enabled(),
    )


@without_gpu
def test_the_reason_why_there_is_no_gpu_is_torchs_own(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert cuda_problem() in {
        "Found no NVIDIA driver on your system",
        f"torch {torch.__version__} is built for CPUs only",
    }


@pytest.mark.parametrize(
    ("said", "told"),
    [(TOO_OLD, TOO_OLD.partition(". Please")[0]), (NOT_SUPPORTED, NOT_SUPPORTED)],
)
def test_what_torch_says_of_a_driver_is_one_line_without_its_advice(monkeypatch, said, told):
    def init():
        raise RuntimeError(said.replace(". ", ".\n"))

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.version, "cuda", "13.2")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "init", init)
    assert cuda_problem() == told


@without_gpu
def test_a_build_for_cpus_and_hidden_gpus_are_named(monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", "13.2")
    for hides in ("", "-1"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hides)
        assert cuda_problem() == f"CUDA_VISIBLE_DEVICES is {hides!r}, which hides all GPUs"
    monkeypatch.setattr(torch.version, "cuda", None)
    assert cuda_problem() == f"torch {torch.__version__} is built for CPUs only"


@without_gpu
def test_auto_is_the_cpu_and_cuda_is_refused_without_a_gpu():
    assert pick_device("auto") == pick_device("cpu") == "cpu"
    with pytest.raises(NoGpuError, match="device: cuda, but torch cannot use a GPU here: "):
        pick_device("cuda")


@pytest.mark.parametrize(
    ("training", "wanted"),
    [
        ({"precision": "fp32"}, ("highest", False, False)),
        ({"precision": "bf16"}, ("highest", False, False)),
        ({"precision": "tf32"}, ("high", True, False)),
        ({"precision": "fp32", "deterministic": True}, ("highest", False, True)),
    ],
)
def test_settings_of_a_training_on_a_gpu_end_with_it(monkeypatch, training, wanted):
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    before = flags()
    with numerics(TrainingConfig(**training), CUDA):
        matmul, cudnn, deterministic, benchmark, algorithms = flags()
        assert (matmul, cudnn, deterministic) == wanted
        assert deterministic == algorithms == ("CUBLAS_WORKSPACE_CONFIG" in os.environ)
        assert not benchmark
    assert flags() == before


def test_a_training_on_a_cpu_changes_no_setting():
    before = flags()
    with numerics(TrainingConfig(precision="tf32", deterministic=True), CPU):
        assert flags() == before


def test_settings_end_also_with_an_error():
    before = flags()
    with pytest.raises(ZeroDivisionError), numerics(TrainingConfig(precision="tf32", deterministic=True), CUDA):
        raise ZeroDivisionError
    assert flags() == before


def test_metrics_are_in_full_precision_whatever_the_training_has():
    with numerics(TrainingConfig(precision="tf32"), CUDA):
        with full_precision():
            assert flags()[:2] == ("highest", False)
        assert flags()[:2] == ("high", True)


def test_a_program_that_uses_fp32_precision_finds_it_as_it_was():
    backends = torch.backends
    kinds = backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn, backends.mkldnn.matmul
    before = flags()
    backends.fp32_precision = "tf32"
    try:
        with full_precision():
            assert [kind.fp32_precision for kind in kinds[:3]] == ["ieee"] * 3
        assert [kind.fp32_precision for kind in kinds] == ["tf32"] * 4
    finally:
        backends.fp32_precision = "none"
    assert backends.cuda.matmul.fp32_precision == "none"
    for kind in kinds[1:3]:
        kind.fp32_precision = "tf32"  # torch's default
    assert flags() == before


def test_evaluation_is_in_full_precision():
    with numerics(TrainingConfig(precision="tf32"), CUDA), evaluating(torch.nn.Module()):
        assert flags()[:2] == ("highest", False)
