"""What driver and workers tell each other survives Ray's dicts."""

import pytest
from ray.tune.utils import flatten_dict

from gaptune.engine.messages import TrialMessage, TrialTask, WorkerMessage, WorkerTask

TASK = WorkerTask(
    trials=tuple(TrialTask(n, {"training": {"epochs": 2}}, {"trial": n}, f"x/{n:04d}") for n in (3, 5)),
    data={"store": "scenes"},
    weights=None,
    workers=1,
    cpu=1,
    gpu=0.5,
    folder="/",
    place="a/3",
    system_metrics=False,
)


@pytest.mark.parametrize(
    "message",
    [
        WorkerMessage((TrialMessage(3, 2, 40, {"retrieval/mean_r1": 0.5, "cifar10/zeroshot/top1": 0.25}),)),
        WorkerMessage((TrialMessage(3, 1, 20), TrialMessage(5, failure="non-finite: loss"))),
        WorkerMessage(),
        WorkerMessage(failure="out of memory", too_large=True),
        WorkerMessage(halt="No space left on device (checkpoints)"),
    ],
)
def test_message_is_the_same_after_ray_has_flattened_it(message):
    result = flatten_dict({**message.to_ray(), "training_iteration": 1, "config": {"trials": [{"number": 3}]}})
    assert WorkerMessage.from_ray(result) == message


def test_task_is_read_back_from_the_config_of_a_ray_trial():
    assert WorkerTask.from_ray({**TASK.to_ray(), "of_ray": 1}) == TASK
    assert TASK.numbers == (3, 5)
    assert WorkerTask.from_ray({**TASK.to_ray(), "trials": []}).numbers == ()
