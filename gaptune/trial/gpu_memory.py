"""The memory of a trial on its GPU: its limit, its peak, and whether an error says that there is too little."""

from __future__ import annotations

import gc
import re
from collections.abc import Callable
from dataclasses import dataclass

import torch

from gaptune.config import TrainingConfig
from gaptune.errors import first_line

CONTEXT = 512 * 2**20
"""Bytes that a process needs on a GPU beside its tensors: CUDA's context and the kernels. Estimated, not measured."""

_SAYS = re.compile(r"out of memory|out_of_memory|alloc(ation)?_failed|can't allocate memory", re.IGNORECASE)
"""In what the libraries write: torch's allocators, CUDA's runtime and driver, cuBLAS (CUBLAS_STATUS_ALLOC_FAILED),
cuDNN 9 (CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED), cuSOLVER, cuFFT, NVRTC and NCCL (Cuda failure 2 'out of
memory'); on the CPU, torch's DefaultCPUAllocator."""

_MAY_MEAN = re.compile(
    r"CU(BLAS|DNN)_STATUS_(NOT_INITIALIZED|INTERNAL_ERROR)|unable to find (an engine|a valid cuDNN algorithm)",
    re.IGNORECASE,
)
"""What cuBLAS and cuDNN write if there is no memory for their handle, kernels or workspace, but not only then."""


@dataclass(frozen=True)
class MemoryUse:
    """Memory of this process on its GPU, in bytes.

    Attributes:
        allocated: Most that tensors have used at the same time.
        reserved: Most that torch has held at the same time.
        limit: Most that torch may hold.
        total: Memory of the GPU.
    """

    allocated: int
    reserved: int
    limit: int
    total: int

    def __str__(self) -> str:
        """What a trial needed and what it could have."""
        return (
            f"at most {_gib(self.reserved)} reserved ({_gib(self.allocated)} allocated) of the {_gib(self.limit)} that "
            f"a trial may use; the GPU has {_gib(self.total)}"
        )


def limit_memory(fraction: float) -> None:
    """Limits what this process may allocate on its GPU, and counts its peak anew.

    Args:
        fraction: Fraction of the GPU's memory; 1 for all of it.
    """
    torch.cuda.set_per_process_memory_fraction(fraction)
    torch.cuda.reset_peak_memory_stats()


def release_memory() -> None:
    """Gives a GPU the memory back that this process keeps of a trial that has ended."""
    if _uses_gpu():
        gc.collect()
        torch.cuda.empty_cache()


def memory_use() -> MemoryUse | None:
    """The peak since ``limit_memory``, and the limit; None in a process that uses no GPU."""
    if not _uses_gpu():
        return None
    total = torch.cuda.get_device_properties().total_memory
    limit = int(torch.cuda.get_per_process_memory_fraction() * total)
    return MemoryUse(torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved(), limit, total)


def free_memory() -> int | None:
    """Free bytes of the GPU, for all processes; None if it is not known, or if this process uses no GPU."""
    if not _uses_gpu():
        return None
    try:
        return torch.cuda.mem_get_info()[0]
    except RuntimeError:  # the error before has made the context useless
        return None


def is_out_of_memory(error: BaseException, free: Callable[[], int | None] = free_memory) -> bool:
    """Whether an error says that a GPU, or this machine, has too little memory.

    Args:
        error: What was raised.
        free: Called for the free bytes of the GPU if the error may have other causes as well.
    """
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    if not isinstance(error, RuntimeError):
        return False
    if _SAYS.search(str(error)):
        return True
    left = free() if _MAY_MEAN.search(str(error)) else None
    return left is not None and left < CONTEXT


def out_of_memory(error: BaseException, training: TrainingConfig, *, on_gpu: bool, use: MemoryUse | None) -> str:
    """Why a trial ended: what it needed, what it could have, and what to change.

    Args:
        error: An error that ``is_out_of_memory``.
        training: Batch sizes of the trial.
        on_gpu: Whether it was trained on a GPU.
        use: Its memory there, if it is known.
    """
    where, more = ("GPU", "a larger resources.gpu") if on_gpu else ("CPU", "fewer trials in parallel")
    parts = "" if training.micro_batch is None else f" in parts of {training.micro_batch}"
    return (
        f"out of memory on the {where} with batches of {training.batch_size}{parts}{f': {use}' if use else ''}; set a "
        f"smaller training.batch_size or training.micro_batch, or {more} ({first_line(error)})"
    )


def _uses_gpu() -> bool:
    return bool(torch.cuda.is_initialized())  # type: ignore[no-untyped-call]  # torch leaves it untyped


def _gib(size: int) -> str:
    return f"{size / 2**30:.2f} GiB"
