"""Whether an error says that there is too little memory, and what the user reads."""

import numpy as np
import pytest
import torch

from gaptune.config.trial import TrainingConfig
from gaptune.trial.gpu_memory import CONTEXT, MemoryUse, free_memory, is_out_of_memory, memory_use, out_of_memory

SAYS = {
    "torch": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of"),
    "outside torch": RuntimeError(
        "CUDA ran out of memory outside PyTorch's allocator. If this workload uses many dynamic shapes, cuDNN may need"
    ),
    "runtime": torch.AcceleratorError("CUDA error: out of memory"),
    "driver": RuntimeError("CUDA driver error: out of memory"),
    "cuBLAS": RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    "cuDNN 8": RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    "cuDNN 9": RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
    "cuSOLVER": RuntimeError("cusolver error: CUSOLVER_STATUS_ALLOC_FAILED, when calling `cusolverDnCreate(handle)`"),
    "NCCL": torch.distributed.DistBackendError(
        "NCCL error in: ProcessGroupNCCL.cpp:3690, unhandled cuda error (run with NCCL_DEBUG=INFO for details)\n"
        "ncclUnhandledCudaError: Call to CUDA function failed.\nLast error:\nCuda failure 2 'out of memory'"
    ),
    "Python": MemoryError(),
    "numpy": np._core._exceptions._ArrayMemoryError((1 << 40,), np.dtype("f8")),
}
SAYS_NOT = {
    "another CUDA error": torch.AcceleratorError("CUDA error: an illegal memory access was encountered"),
    "another NCCL error": torch.distributed.DistBackendError("Cuda failure 1 'invalid argument'"),
    "another kind": ValueError("out of memory"),
    "a shape": RuntimeError("mat1 and mat2 shapes cannot be multiplied (2x3 and 2x3)"),
}
MAY_MEAN = (
    "CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`",
    "cuDNN error: CUDNN_STATUS_NOT_INITIALIZED",
    "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR",
    "GET was unable to find an engine to execute this computation",
    "Unable to find a valid cuDNN algorithm to run convolution",
)


@pytest.mark.parametrize("error", SAYS.values(), ids=SAYS)
def test_out_of_memory_is_known_in_every_librarys_words(error):
    assert is_out_of_memory(error)


@pytest.mark.parametrize("error", SAYS_NOT.values(), ids=SAYS_NOT)
def test_other_errors_are_not_taken_for_it(error):
    assert not is_out_of_memory(error, free=lambda: 0)


@pytest.mark.parametrize("text", MAY_MEAN)
def test_an_error_with_several_causes_counts_if_the_gpu_is_full(text):
    assert is_out_of_memory(RuntimeError(text), free=lambda: CONTEXT - 1)
    assert not is_out_of_memory(RuntimeError(text), free=lambda: 2 * CONTEXT)
    assert not is_out_of_memory(RuntimeError(text), free=lambda: None)


def test_torchs_own_error_on_a_cpu_is_known():
    with pytest.raises(RuntimeError) as caught:
        torch.zeros(10**15)
    assert is_out_of_memory(caught.value)


def test_message_tells_what_was_needed_what_there_was_and_what_to_change():
    use = MemoryUse(allocated=3 * 2**30, reserved=7 * 2**29, limit=4 * 2**30, total=16 * 2**30)
    error = SAYS["torch"]
    text = out_of_memory(error, TrainingConfig(batch_size=256, micro_batch=32), on_gpu=True, use=use)
    assert text.startswith(
        "out of memory on the GPU with batches of 256 in parts of 32: at most 3.50 GiB reserved (3.00 GiB allocated) "
        "of the 4.00 GiB that a trial may use; the GPU has 16.00 GiB; set a smaller training.batch_size or "
        "training.micro_batch, or a larger resources.gpu (CUDA out of memory. Tried to allocate 20.00 MiB."
    )


def test_message_on_a_cpu_says_nothing_of_gpus():
    text = out_of_memory(SAYS["NCCL"], TrainingConfig(), on_gpu=False, use=None)
    assert "GPU" not in text
    assert "\n" not in text
    assert "with batches of 128; set a smaller training.batch_size" in text


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_process_without_a_gpu_has_no_memory_there():
    assert memory_use() is None
    assert free_memory() is None
