"""How many trials share a GPU: measured on a short training before the first trial of a sweep."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from gaptune.config import SweepConfig, TrialConfig
from gaptune.engine.placement import Gpus, Machine
from gaptune.engine.plan import Plan, with_gpus
from gaptune.engine.signals import Stop
from gaptune.errors import UserError, first_line
from gaptune.space.methods import expand_method
from gaptune.space.model import Choice, Space
from gaptune.text.words import counted

if TYPE_CHECKING:
    from gaptune.data import Store

MOST_TRIALS = 64
"""Largest number of trials on a GPU."""

_WARM_UP, _MEASURED = 10, 30
"""Steps before the measurement, in which libraries choose their algorithms, and steps of the measurement."""
_LONGEST_S = 60.0
_MARGIN = 1.25
"""Memory that a trial gets, relative to the measured peak: other params of the space may need more."""
_LARGEST = ("training.batch_size", "model.width")
"""Parameters of which the measured trial has the largest value in the space."""


@dataclass(frozen=True)
class Readings:
    """Measurements of a short training.

    Attributes:
        reserved: Most bytes that torch held on the GPU.
        total: Bytes of the GPU.
        busy: Fraction of the time in which the GPU computed; None if it could not be measured.
    """

    reserved: int
    total: int
    busy: float | None


class GpuProbe(Protocol):
    """Measures this process's use of its GPU."""

    def busy(self) -> Callable[[], float]:
        """Starts to measure; the function that it returns ends that, and gives the fraction of time in use."""

    def memory(self) -> tuple[int, int]:
        """Most bytes that torch has held, and the bytes of the GPU."""


def trials_that_fit(readings: Readings, cores: float, context: int) -> int:
    """How many trials share a GPU: as many as have memory, a core each, and time in which the others do not compute.

    Args:
        readings: Measurements of one trial.
        cores: Trials for which there are CPU cores, for each GPU.
        context: Bytes of the context of a process.
    """
    by_memory = readings.total / (_MARGIN * readings.reserved + context)
    by_time = math.inf if readings.busy is None else 1 / max(readings.busy, 1 / MOST_TRIALS)
    return max(1, int(min(by_memory, by_time, cores, MOST_TRIALS)))


def gpus_of(trials: int) -> float:
    """The fraction of a GPU of which Ray puts a number of trials on each: its units are 1/10,000."""
    return math.floor(10_000 / trials) / 10_000


def measure_training(config: TrialConfig, store: Store, probe: GpuProbe, *, seconds: float = _LONGEST_S) -> Readings:
    """Trains until the first report and 40 steps are over, or the time is.

    Args:
        config: Configuration of a trial.
        store: Its training data.
        probe: Measures the GPU.
        seconds: Longest duration.

    Raises:
        UserError: The time was too short for a measurement.
    """
    from gaptune.trial import train

    watch = _Watch(probe, seconds)
    with suppress(_TimeOverError):
        for _ in train(config, store, progress=watch):
            if watch.finished:
                break
    if watch.steps < _WARM_UP:
        raise UserError(f"only {counted(watch.steps, 'step')} in {seconds:g} s")
    reserved, total = probe.memory()
    return Readings(reserved, total, watch.busy)


class _TimeOverError(Exception):
    """The time for the measurement is over."""


class _Watch:
    """Called after each step of a training: measures some of them, and ends the training when its time is over."""

    def __init__(self, probe: GpuProbe, seconds: float) -> None:
        self.busy: float | None = None
        self.finished = False
        self.steps = 0
        self._probe = probe
        self._stop: Callable[[], float] | None = None
        self._end = time.monotonic() + seconds

    def __call__(self, epochs: float | None = None, /) -> None:
        self.steps += 1
        over = time.monotonic() > self._end
        if self.steps == _WARM_UP:
            with suppress(Exception):  # the profiler may lack permissions, or its library
                self._stop = self._probe.busy()
        elif self.steps >= _WARM_UP + _MEASURED or over:
            self._finish()
        if over:
            raise _TimeOverError

    def _finish(self) -> None:
        stop, self._stop, self.finished = self._stop, None, True
        if stop is not None:
            with suppress(Exception):
                self.busy = stop()


class CudaProbe:
    """The GPU of this process, by torch's allocator and profiler. Not tried on a GPU yet."""

    def busy(self) -> Callable[[], float]:
        """Starts the profiler; see ``GpuProbe``."""
        import torch
        from torch.profiler import ProfilerActivity, profile

        torch.cuda.synchronize()
        profiler = profile(activities=[ProfilerActivity.CUDA])
        profiler.start()
        started = time.perf_counter()

        def stop() -> float:
            torch.cuda.synchronize()
            elapsed = time.perf_counter() - started
            profiler.stop()
            used = sum(event.self_device_time_total for event in profiler.key_averages())
            return float(min(1.0, used / 1e6 / elapsed))

        return stop

    def memory(self) -> tuple[int, int]:
        """See ``GpuProbe``."""
        import torch

        return torch.cuda.max_memory_reserved(), torch.cuda.get_device_properties().total_memory


def largest_trial(sweep: SweepConfig, space: Space) -> TrialConfig:
    """The trial that is measured: the sweep's own, with the largest batches and the widest model of the space."""
    params = {}
    for parameter in space.parameters:
        if parameter.name in _LARGEST:
            of = parameter.distribution
            params[parameter.name] = max(of.values) if isinstance(of, Choice) else of.high
    try:
        return sweep.trial(expand_method(params))
    except UserError:  # they contradict the sweep's own values
        return sweep.trial({})


def measured_plan(plan: Plan, stop: Stop, say: Callable[[str], None]) -> Plan:
    """A plan in which small models share a GPU, from a measurement on one of Ray's GPUs.

    Args:
        plan: The sweep. If its number of GPUs was not chosen automatically, it is returned unchanged.
        stop: Whether to end early.
        say: Callback that prints a line.

    Raises:
        Stopped: The measurement was interrupted.
    """
    if not plan.gpus.to_measure:
        return plan
    import ray

    from gaptune.engine.calls import results_of
    from gaptune.trial.gpu_memory import CONTEXT

    say("measuring how many trials can share a GPU")
    config = largest_trial(plan.sweep, plan.space).model_dump()
    cpu = plan.sweep.resources.cpu
    one = [(config, cpu, str(Path.cwd()))]
    with closing(results_of(_measure, one, processes=1, cpus=cpu, gpus=1, look=stop.check)) as found:
        _, readings = next(found)
    if isinstance(readings, ray.exceptions.RayError):  # a whole GPU is enough if anything is; the trials say why not
        why = f"{plan.gpus.why}; not measured: {first_line(getattr(readings, 'cause', readings))}"
        return _with(plan, Gpus(1.0, why))
    cores = cores_per_gpu([node["Resources"] for node in ray.nodes() if node["Alive"]], cpu)
    trials = trials_that_fit(readings, cores, CONTEXT)
    return _with(plan, Gpus(1.0 if trials == 1 else gpus_of(trials), f"{plan.gpus.why}; {_told(readings)}"))


def cores_per_gpu(machines: list[Machine], cpu: int) -> float:
    """Trials for which there are CPU cores, for each GPU of the machine that has the fewest of them.

    Args:
        machines: What each machine has.
        cpu: CPU cores of a trial.
    """
    return min((each["CPU"] // cpu / each["GPU"] for each in machines if each.get("GPU")), default=1.0)


def _with(plan: Plan, gpus: Gpus) -> Plan:
    return replace(plan, gpus=gpus, sweep=with_gpus(plan.sweep, gpus))


def _told(readings: Readings) -> str:
    busy = "" if readings.busy is None else f" and {readings.busy:.0%} of its time"
    return f"a trial took {readings.reserved / 2**30:.1f} of {readings.total / 2**30:.1f} GiB{busy}"


def _measure(config: dict[str, Any], threads: int, folder: str) -> Readings:
    """Runs on a worker."""
    from gaptune.engine.trainer import take_device

    device = take_device(1.0)
    import torch

    from gaptune.data.open import open_training

    torch.set_num_threads(threads)
    with suppress(OSError):  # it may not exist on another node
        os.chdir(folder)
    trial = TrialConfig.model_validate({**config, "device": device})
    return measure_training(trial, open_training(trial.data), CudaProbe())
