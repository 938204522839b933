"""What a worker uses of its machine."""

import mmap
import threading
import time

import pytest
from ray._private.thirdparty import pynvml

from gaptune.engine.system_metrics import Meter
from gaptune.metrics.table import SYSTEM


def busy(seconds):
    deadline = time.perf_counter() + seconds
    while time.perf_counter() < deadline:
        pass


def test_busy_process_uses_more_cpu_than_an_idle_one():
    meter = Meter(gpu=False)
    time.sleep(0.3)
    idle = meter.read()["system/cpu_percent"]
    busy(0.6)
    assert meter.read()["system/cpu_percent"] > idle + 20
    meter.close()


def test_memory_grows_with_what_is_held():
    meter = Meter(gpu=False)
    before = meter.read()["system/memory_mb"]
    with mmap.mmap(-1, 320_000_000) as held:  # new pages, whatever the process keeps of what it has freed
        held.write(bytes(320_000_000))
        now = meter.read()["system/memory_mb"]
    meter.close()
    assert now > before + 250


def test_a_closed_meter_leaves_no_thread_and_everything_it_says_is_in_the_table():
    meter = Meter(gpu=False)
    assert set(meter.read()) <= set(SYSTEM)
    meter.close()
    assert "usage" not in {thread.name for thread in threading.enumerate()}


@pytest.mark.parametrize("code", [pynvml.NVML_ERROR_NOT_SUPPORTED, pynvml.NVML_ERROR_NO_PERMISSION])
def test_nvml_that_refuses_costs_a_metric_and_no_trial(monkeypatch, code):
    def refuses():
        raise pynvml.NVMLError(code)  # on MIG devices, in containers, or with another driver than its library's

    monkeypatch.setattr("torch.cuda.utilization", refuses)
    monkeypatch.setattr("torch.cuda.memory_reserved", lambda: 5_000_000)
    meter = Meter(gpu=True)
    assert set(meter.read()) == set(SYSTEM) - {"system/gpu_percent"}
    assert meter.read()["system/gpu_memory_mb"] == 5.0
    meter.close()


def test_nvml_that_fails_later_costs_a_metric_and_no_trial(monkeypatch):
    monkeypatch.setattr("torch.cuda.utilization", lambda: 40)
    monkeypatch.setattr("torch.cuda.memory_reserved", lambda: 5_000_000)
    meter = Meter(gpu=True)
    assert meter.read()["system/gpu_percent"] == 40.0
    monkeypatch.setattr("torch.cuda.utilization", lambda: pynvml._nvmlCheckReturn(pynvml.NVML_ERROR_GPU_IS_LOST))
    meter.read()
    assert set(meter.read()) == set(SYSTEM) - {"system/gpu_percent"}
    meter.close()
