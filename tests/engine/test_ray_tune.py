"""Why a trial broke, from what Ray keeps of it."""

import pytest

from gaptune.engine.ray_tune import reason_of

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
    ("error", "reason"),
    [
        (TASK, "exception: ValueError: this is wrong"),
        (SETUP, "exception: ModuleNotFoundError: No module named 'torch'"),
        (KILLED, "worker lost: Worker unexpectedly exits with a connection error code 2. End of file."),
        ("Task was killed due to the node running low on memory.\n", "out of memory: the machine ran short"),
        ("The actor died because its node has died. Node Id: 01\n", "node lost: The actor died because its node"),
        ("", "exception: unknown"),
    ],
)
def test_the_last_failure_is_one_line_that_says_what_happened(error, reason):
    earlier = "Failure # 1 (occurred at 2026-11-25_10-00-00)\nKeyError: 'an earlier one'\n"
    text = f"{earlier}Failure # 2 (occurred at 2026-11-25_10-01-00)\n{error}"
    assert reason_of(text).startswith(reason)
    assert "\n" not in reason_of(text)
