"""Why a trial failed: from a worker's exception, and from the text that Ray keeps."""

import errno
import platform

import pytest
import torch

from gaptune.engine.failures import failure_of, ledger_failure, message_of
from gaptune.engine.messages import TrialTask, WorkerMessage, WorkerTask
from gaptune.engine.shared_paths import NotSharedError
from gaptune.errors import UserError
from gaptune.ledger import LostError
from gaptune.trial import NonFinite
from gaptune.trial.device import NoGpuError

NODE = "0123abcd" * 7
TASK = """ray::Worker.train() (pid=17, ip=10.0.0.5, actor_id=2d8a, repr=<Worker>)
  File "/lib/ray/tune/trainable/trainable.py", line 331, in train
    raise skipped from exception_cause(skipped)
  File "/srv/worker.py", line 93, in step
    self._reports = self._take_up(self._task)
ValueError: this is wrong
and this is why
"""
SETUP = """The actor died because of an error raised in its creation task, ray::Worker.__init__() (pid=17)
  File "/srv/worker.py", line 10, in <module>
    import torch
ModuleNotFoundError: No module named 'torch'
"""
KILLED = """The actor died unexpectedly before finishing this task.
\tclass_name: Worker
\tpid: 17
The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR Worker exit detail: Worker \
unexpectedly exits with a connection error code 2. End of file. There are some potential root causes. (1) The process \
is killed by SIGKILL by OOM killer due to high memory usage. (2) ray stop --force is called.
"""


@pytest.mark.parametrize(
    ("error", "reason", "may_pass"),
    [
        (TASK, "exception: ValueError: this is wrong", True),
        (SETUP, "exception: ModuleNotFoundError: No module named 'torch'", True),
        (KILLED, "worker lost: Worker unexpectedly exits with a connection error code 2. End of file.", True),
        ("Task was killed due to the node running low on memory.\n", "out of memory: the machine ran short", False),
        (f"The actor died because its node has died. Node Id: {NODE}\n", "node lost: The actor died", True),
        ("", "exception: unknown", True),
    ],
)
def test_last_failure_is_one_line_that_tells_what_happened(error, reason, may_pass):
    earlier = "Failure # 1 (occurred at 2026-11-25_10-00-00)\nKeyError: 'an earlier one'\n"
    text = f"{earlier}Failure # 2 (occurred at 2026-11-25_10-01-00)\n{error}"
    failure = failure_of(text)
    assert failure.reason.startswith(reason)
    assert "\n" not in failure.reason
    assert failure.may_pass is may_pass
    assert failure.has_traceback is reason.startswith("exception")
    assert failure.lost == {"node lost": "node", "worker lost": "worker"}.get(reason.partition(":")[0])
    assert failure.node == (NODE if failure.lost == "node" else None)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (NonFinite("loss is nan"), WorkerMessage(failure="non-finite: loss is nan")),
        (UserError("no such store"), WorkerMessage(failure="no such store")),
        (
            NotSharedError("/r/s/trials does not exist there"),
            WorkerMessage(
                halt=f"{platform.node()} does not see the results of the sweep: /r/s/trials does not exist there"
            ),
        ),
        (
            torch.OutOfMemoryError("CUDA is full\nmore"),
            WorkerMessage(
                failure="out of memory on the GPU with batches of 32; set a smaller training.batch_size or "
                "training.micro_batch, or a larger resources.gpu (CUDA is full)",
                too_large=True,
            ),
        ),
        (
            RuntimeError(
                "upsample_bicubic2d_backward_out_cuda does not have a deterministic implementation, but you set "
                "'torch.use_deterministic_algorithms(True)'. You can turn off determinism just for this operation"
            ),
            WorkerMessage(
                failure="training.deterministic: upsample_bicubic2d_backward_out_cuda does not have a deterministic "
                "implementation; set it to false"
            ),
        ),
        (
            NoGpuError("The NVIDIA driver on your system is too old (found version 11040)"),
            WorkerMessage(
                halt=f"trial 3 cannot use its GPU on {platform.node()}: The NVIDIA driver on your system is too old "
                "(found version 11040)"
            ),
        ),
        (
            OSError(errno.ENOSPC, "No space left on device", "a.pt"),
            WorkerMessage(halt="No space left on device (a.pt)"),
        ),
        (OSError(errno.EDQUOT, "Quota exceeded"), WorkerMessage(halt="Quota exceeded (checkpoints)")),
        (OSError(errno.EIO, "Input/output error"), None),
        (ValueError("anything else"), None),
    ],
)
def test_worker_reports_only_what_a_retry_would_not_cure(error, message):
    config = {"training": {"batch_size": 32}}
    trials = (TrialTask(3, config, {}, ""),)
    task = WorkerTask(trials, {}, None, workers=1, cpu=1, gpu=0.5, folder="", place="", system_metrics=False)
    assert message_of(error, task) == message


def test_only_a_full_disk_and_a_lost_ledger_halt_the_sweep():
    assert ledger_failure(OSError(errno.ENOSPC, "No space left on device")) == "No space left on device (the ledger)"
    assert ledger_failure(LostError("another driver has it")) == "another driver has it"
    assert ledger_failure(OSError(errno.EIO, "Input/output error")) is None
