"""How many trials share a GPU, from readings that a test makes up and from a real training on the CPU."""

import pytest
from support import sweep_config

from gaptune.data.open import open_store
from gaptune.engine.gpu_measurement import (
    MOST_TRIALS,
    Readings,
    cores_per_gpu,
    gpus_of,
    largest_trial,
    measure_training,
    trials_that_fit,
)
from gaptune.engine.placement import trials_per_gpu
from gaptune.errors import UserError
from gaptune.space.parse import parse_space

GIB = 2**30
CONTEXT = GIB // 2


@pytest.mark.parametrize(
    ("reserved", "busy", "cores", "trials"),
    [
        (1.0, 0.01, 64, 45),  # memory: 80 / 1.75
        (0.01, 0.1, 64, 10),  # time
        (0.01, 0.01, 6, 6),  # cores
        (0.01, 0.0, 1000, MOST_TRIALS),
        (0.1, None, 8, 8),
        (60.0, 0.95, 8, 1),
        (79.0, None, 0.5, 1),
    ],
)
def test_trials_share_a_gpu_as_memory_time_and_cores_allow(reserved, busy, cores, trials):
    assert trials_that_fit(Readings(int(reserved * GIB), 80 * GIB, busy), cores, CONTEXT) == trials


@pytest.mark.parametrize("trials", range(1, MOST_TRIALS + 1))
def test_ray_puts_as_many_trials_on_a_gpu_as_were_found(trials):
    assert trials_per_gpu(gpus_of(trials)) == trials


def test_cores_are_those_of_the_machine_that_has_the_fewest_for_each_gpu():
    machines = [{"CPU": 4.0}, {"CPU": 16.0, "GPU": 2.0}, {"CPU": 64.0, "GPU": 4.0}]
    assert cores_per_gpu(machines, 2) == 4.0
    assert cores_per_gpu([{"CPU": 4.0}], 1) == 1.0


@pytest.mark.parametrize(
    ("params", "batch"),
    [
        ({}, 16),
        ({"training.batch_size": {"choice": [64, 256, 32]}}, 256),
        ({"training.batch_size": {"integer": [8, 99]}}, 99),
    ],
)
def test_the_largest_batch_of_the_space_is_measured(params, batch):
    space = parse_space({"name": "s", "params": {"optimizer.lr": {"log_uniform": [1e-4, 1e-2]}} | params})
    sweep = sweep_config(training={"epochs": 2, "batch_size": 16})
    assert largest_trial(sweep, space).training.batch_size == batch


class Probe:
    """A GPU as the test has it: in use half of the time."""

    def __init__(self, fails=False):
        self.fails, self.steps = fails, []

    def busy(self):
        self.steps.append("started")
        if self.fails:
            raise RuntimeError("CUPTI_ERROR_INSUFFICIENT_PRIVILEGES")
        return lambda: self.steps.append("stopped") or 0.5

    def memory(self):
        return GIB, 80 * GIB


@pytest.fixture
def trial(small_features):
    config = {"model": {"name": "heads", "width": 8}, "data": {"store": str(small_features)}, "device": "cpu"}
    sweep = sweep_config(**config, training={"epochs": 500, "batch_size": 16})
    return sweep.trial({}), open_store(small_features)


def test_some_steps_of_a_real_training_are_measured(trial):
    probe = Probe()
    assert measure_training(*trial, probe) == Readings(GIB, 80 * GIB, 0.5)
    assert probe.steps == ["started", "stopped"]


def test_a_profiler_that_may_not_run_leaves_memory_and_cores(trial):
    assert measure_training(*trial, Probe(fails=True)) == Readings(GIB, 80 * GIB, None)


def test_a_training_that_is_too_slow_to_be_measured_is_ended(trial):
    probe = Probe()
    with pytest.raises(UserError, match="only 1 step in 0 s"):
        measure_training(*trial, probe, seconds=0.0)
    assert probe.steps == []
