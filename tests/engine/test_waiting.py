"""Lines about trials that wait for a worker."""

import pytest

from gaptune.config import ResourcesConfig
from gaptune.engine.waiting import Waiting


class Time:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def watch():
    clock, lines = Time(), []

    def make(most, *, autoscales=False, gpu=1):
        resources = ResourcesConfig(cpu=2, gpu=gpu)
        waiting = Waiting(resources, most, autoscales=autoscales, say=lines.append, clock=clock)

        def look(seconds, running, pending):
            clock.now += seconds
            waiting.look(running, pending)

        return look, lines

    return make


def test_a_long_wait_is_one_line_with_its_reason_and_one_at_its_end(watch):
    look, lines = watch(8)
    look(0, 2, 6)
    look(14, 2, 6)
    assert lines == []
    look(2, 2, 6)
    look(60, 2, 6)
    assert lines == ["6 trials wait and 2 run: no node has 2 CPU and 1 GPU free (see `ray status`)"]
    look(1, 8, 0)
    assert lines[1:] == ["all trials have workers again: 8 in parallel"]


def test_an_autoscaler_is_named(watch):
    look, lines = watch(1, autoscales=True, gpu=0)
    look(0, 0, 1)
    look(20, 0, 1)
    assert lines == ["1 trial waits and 0 run: the autoscaler has been asked for nodes with 2 CPU for each"]


def test_the_trial_that_waits_for_the_next_free_worker_is_no_wait(watch):
    look, lines = watch(4)
    for _ in range(10):
        look(20, 4, 1)
    assert lines == []


def test_workers_that_start_one_after_the_other_are_no_wait(watch):
    look, lines = watch(4)
    for running in range(5):
        look(10, running, 4 - running)
    assert lines == []
