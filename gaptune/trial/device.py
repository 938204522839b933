"""The device of a trial: which one, why there is none, and how it computes."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch

from gaptune.config import TrainingConfig
from gaptune.errors import UserError

_NONE_VISIBLE = ("", "-1", "NoDevFiles")


class NoGpuError(UserError):
    """A GPU is asked for, but torch cannot use one in this process."""


def pick_device(wanted: str) -> str:
    """A device by what a configuration says, which may be ``auto``.

    Raises:
        NoGpuError: It is ``cuda``, and torch cannot use a GPU; the message has the reason.
    """
    if wanted == "auto":
        return "cuda" if _is_available() else "cpu"
    if wanted == "cuda" and (problem := cuda_problem()):
        raise NoGpuError(f"device: cuda, but torch cannot use a GPU here: {problem}")
    return wanted


def cuda_problem() -> str | None:
    """Why torch cannot use a GPU in this process, in its own words; None if it can. Creates no CUDA context."""
    if _is_available():
        return None
    if torch.version.cuda is None and torch.version.hip is None:
        return f"torch {torch.__version__} is built for CPUs only"
    for name in ("CUDA_VISIBLE_DEVICES", *(["HIP_VISIBLE_DEVICES"] if torch.version.hip else [])):
        if os.environ.get(name, "0").strip() in _NONE_VISIBLE:
            return f"{name} is {os.environ[name]!r}, which hides all GPUs"
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    except (AssertionError, RuntimeError) as error:
        return " ".join(str(error).split()).partition(" Please ")[0].rstrip(".")
    return "torch.cuda.is_available() is false"


def _is_available() -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # by which torch says why not
        return torch.cuda.is_available()


@contextmanager
def numerics(training: TrainingConfig, device: torch.device) -> Iterator[None]:
    """A context in which a device computes as ``precision`` and ``deterministic`` say.

    On a CPU nothing changes: ``tf32`` is ``fp32`` there, and its algorithms are deterministic. The settings belong to
    the process; they are as before afterwards, so that no trial inherits those of another.

    Args:
        training: Precision, and whether the algorithms are deterministic.
        device: Device of the training.
    """
    if device.type != "cuda":
        yield
        return
    with _tf32(training.precision == "tf32"), _deterministic() if training.deterministic else nullcontext():
        yield


@contextmanager
def full_precision() -> Iterator[None]:
    """A context in which products and convolutions of float32 are not rounded to TF32, for metrics."""
    with _tf32(False):
        yield


@contextmanager
def _tf32(allowed: bool) -> Iterator[None]:
    """Whether matrix products and convolutions may use TF32.

    By ``fp32_precision`` only if the program around uses it: torch, 2.11 to 2.15, calls functions that raise an error
    after it was mixed with the other names (``cudnn.flags``, ``get_float32_matmul_precision``).
    """
    backends: Any = torch.backends  # not all of it has types
    kinds = backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn, backends.mkldnn.matmul
    before = [kind.fp32_precision for kind in kinds]
    old = None if _uses_fp32_precision() else (torch.get_float32_matmul_precision(), backends.cudnn.allow_tf32)
    if old is None:
        for kind in kinds[:3]:
            kind.fp32_precision = "tf32" if allowed else "ieee"
    else:
        torch.set_float32_matmul_precision("high" if allowed else "highest")
        backends.cudnn.allow_tf32 = allowed
    try:
        yield
    finally:
        if old is not None:
            torch.set_float32_matmul_precision(old[0])
            backends.cudnn.allow_tf32 = old[1]
        for kind, precision in zip(kinds, before, strict=True):
            kind.fp32_precision = "none"  # inherits
            if kind.fp32_precision != precision:
                kind.fp32_precision = precision


def _uses_fp32_precision() -> bool:
    """Whether the program around has set ``fp32_precision``; then ``allow_tf32`` has no effect, or raises an error."""
    backends: Any = torch.backends
    if backends.fp32_precision != "none" or backends.cudnn.fp32_precision != "none":
        return True
    try:
        _ = torch.get_float32_matmul_precision(), backends.cudnn.allow_tf32
    except RuntimeError:
        return True
    return False


@contextmanager
def _deterministic() -> Iterator[None]:
    # torch refuses cuBLAS without it; cuBLAS reads it once for each process, so it stays
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    cudnn = torch.backends.cudnn
    before = torch.are_deterministic_algorithms_enabled(), cudnn.deterministic, cudnn.benchmark
    torch.use_deterministic_algorithms(True)
    cudnn.deterministic, cudnn.benchmark = True, False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        cudnn.deterministic, cudnn.benchmark = before[1:]
