"""What a worker uses of its machine."""

import threading
import time

import numpy as np

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
    held = np.ones(40_000_000)
    assert meter.read()["system/memory_mb"] > before + 250
    assert held[0] == 1
    meter.close()


def test_a_closed_meter_leaves_no_thread_and_everything_it_says_is_in_the_table():
    meter = Meter(gpu=False)
    assert set(meter.read()) <= set(SYSTEM)
    meter.close()
    assert "usage" not in {thread.name for thread in threading.enumerate()}
