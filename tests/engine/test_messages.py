"""What driver and workers tell each other survives Ray's dicts."""

from dataclasses import replace

import pytest
from ray.tune.utils import flatten_dict

from gaptune.engine.messages import WorkerMessage, WorkerTask

TASK = WorkerTask(
    number=3,
    config={"training": {"epochs": 2}},
    event={"trial": 3},
    data={"store": "scenes"},
    weights=None,
    checkpoints="x/0003",
    threads=1,
    gpu=0.5,
    folder="/",
    progress="a/3",
    system_metrics=False,
)


@pytest.mark.parametrize(
    "message",
    [
        WorkerMessage(2, 40, {"retrieval/mean_r1": 0.5, "cifar10/zeroshot/top1": 0.25}),
        WorkerMessage(1, 20),
        WorkerMessage(failure="non-finite: loss"),
        WorkerMessage(halt="No space left on device (checkpoints)"),
    ],
)
def test_message_is_the_same_after_ray_has_flattened_it(message):
    result = flatten_dict({**message.to_ray(), "training_iteration": 1, "config": {"number": 3}})
    assert WorkerMessage.from_ray(result) == message


def test_task_is_read_back_from_the_config_of_a_ray_trial():
    assert WorkerTask.from_ray({**TASK.to_ray(), "of_ray": 1}) == TASK
    given_up = {**TASK.to_ray(), "given_up": True}
    assert WorkerTask.from_ray(given_up) == replace(TASK, given_up=True)
