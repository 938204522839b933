"""Measures how much of its machine a worker uses, for the system metrics in the MLflow UI."""

from __future__ import annotations

import logging
import statistics
import threading
from collections.abc import Callable

import psutil

from gaptune.errors import first_line

_PERIOD_S = 1.0

_log = logging.getLogger(__name__)


class Meter:
    """Measures this process once a second until it is closed.

    What cannot be measured is left out from then on; no error of a probe reaches the trial.

    Args:
        gpu: Whether to measure its GPU, too. Utilization needs NVIDIA's ``nvidia-ml-py``, and a GPU that reports it,
            which a MIG device does not; memory needs neither.
    """

    def __init__(self, *, gpu: bool) -> None:
        self._probes = _of_process() | (_of_gpu() if gpu else {})
        self._seen: dict[str, list[float]] = {}
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="usage", daemon=True)
        self._thread.start()

    def read(self) -> dict[str, float]:
        """Means since the last call, by metric; measures at least once."""
        self._measure()
        with self._lock:
            seen, self._seen = self._seen, {}
        return {name: statistics.fmean(values) for name, values in seen.items() if values}

    def close(self) -> None:
        """Stops measuring."""
        self._closed.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._closed.wait(_PERIOD_S):
            self._measure()

    def _measure(self) -> None:
        with self._lock:
            for name, probe in list(self._probes.items()):
                try:
                    self._seen.setdefault(name, []).append(probe())
                except Exception as error:  # NVML's errors have no base class in common with torch's
                    del self._probes[name]
                    _log.warning("%s is not measured: %s", name, first_line(error))


def _of_process() -> dict[str, Callable[[], float]]:
    process = psutil.Process()
    process.cpu_percent()  # the first call only starts its clock
    return {
        "system/cpu_percent": process.cpu_percent,
        "system/memory_mb": lambda: process.memory_info().rss / 1e6,
    }


def _of_gpu() -> dict[str, Callable[[], float]]:
    import torch

    return {
        "system/gpu_memory_mb": lambda: torch.cuda.memory_reserved() / 1e6,
        "system/gpu_percent": lambda: float(torch.cuda.utilization()),
    }
