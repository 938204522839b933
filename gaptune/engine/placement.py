"""Where trials run: what the machines have, how many GPUs each trial gets, and how many trials run in parallel."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import yaml

from gaptune.config import ResourcesConfig, TrialConfig
from gaptune.engine.machine import available_cores, available_gpus, gpu_problem
from gaptune.errors import UserError
from gaptune.text.words import counted

Machine = Mapping[str, float]
"""The resources of a machine as Ray names them: ``CPU``, ``GPU`` …"""

HERE = "this machine"

_UNITS = 10_000
"""Ray counts resources in units of 1/10,000."""


@dataclass(frozen=True)
class Gpus:
    """How many GPUs each trial of a sweep gets.

    Attributes:
        number: The number; several trials share a GPU if it is below 1.
        why: Why it was chosen; empty if the sweep config has the number.
        to_measure: Whether a measurement before the first trial decides how many trials share a GPU.
    """

    number: float
    why: str = ""
    to_measure: bool = False

    def __str__(self) -> str:
        """One line for the plan, such as ``0.25 GPU (4 trials per GPU)``."""
        text = f"{'at most ' if self.to_measure else ''}{self.number:g} GPU" if self.number else "no GPU"
        notes = [f"{counted(trials_per_gpu(self.number), 'trial')} per GPU"] if 0 < self.number < 1 else []
        notes += [f"auto: {self.why}"] if self.why else []
        notes += ["how many trials share a GPU is measured before the first"] if self.to_measure else []
        return f"{text} ({'; '.join(notes)})" if notes else text


@dataclass(frozen=True)
class Place:
    """The machines that run trials.

    Attributes:
        name: As text, for messages.
        machines: What each of them has.
        to_come: What machines have that an autoscaler may start.
        problem: Why torch cannot use a GPU, on this machine.
        open_ended: Whether machines may come that are not known here.
    """

    name: str
    machines: Sequence[Machine]
    to_come: Sequence[Machine] = ()
    problem: str | None = None
    open_ended: bool = False

    @property
    def several(self) -> bool:
        """Whether trials may run on other machines than this one."""
        return len(self.machines) > 1 or bool(self.to_come) or self.open_ended

    @staticmethod
    def local(gpu: float | Literal["auto"]) -> Place:
        """This machine.

        Args:
            gpu: GPUs of a trial; with 0 nobody looks for GPUs.
        """
        problem = gpu_problem(sure=gpu != "auto") if gpu else None
        gpus = available_gpus() if gpu and problem is None else 0
        return Place(HERE, [{"CPU": available_cores(), "GPU": gpus}], problem=problem)

    @staticmethod
    def of_ray(address: str | None, machines: Sequence[Machine], *, autoscales: bool = False) -> Place:
        """A cluster, or a Ray on this machine that the program around has started.

        Args:
            address: Address of the cluster.
            machines: The resources of each of its machines.
            autoscales: Whether it starts further machines by itself.
        """
        name = HERE if address is None else f"the cluster at {address}"
        on_kubernetes = address is not None and "KUBERNETES_SERVICE_HOST" in os.environ
        kinds = kinds_to_come() if autoscales else []
        return Place(name, machines, kinds, open_ended=on_kubernetes or (autoscales and not kinds))

    def check(self, resources: ResourcesConfig) -> None:
        """Refuses trials whose workers can never all run at the same time: Ray would wait forever.

        On Kubernetes the operator may start machines that are not known here, so nothing is refused.

        Raises:
            UserError: The machines have not, and will not have, what a trial needs.
        """
        if self.open_ended or any(fitting(resources, machine) for machine in self.to_come):
            return
        fit = int(sum(fitting(resources, machine) for machine in self.machines))
        if fit >= resources.workers:
            return
        cpu, gpu = (max((each.get(kind, 0.0) for each in self.machines), default=0.0) for kind in ("CPU", "GPU"))
        has = f"{cpu:g} CPU" + (f" and {gpu:g} GPU" if resources.gpus else "")
        has += f" ({self.problem})" if self.problem and resources.gpus else ""
        who = self.name if self.name == HERE else f"a machine of {self.name}"
        larger = "" if self.name == HERE else ", and no larger node can be started"
        if fit:
            raise UserError(
                f"each trial needs {resources.workers} workers of {describe(resources)} at the same time; {self.name} "
                f"can run {fit}{larger.replace('larger', 'further')}; see resources.workers, resources.cpu and "
                "resources.gpu"
            )
        raise UserError(
            f"each trial needs {describe(resources)} on one machine; {who} has at most {has}{larger}; "
            "see resources.cpu and resources.gpu"
        )

    def assign(self, resources: ResourcesConfig, device: str) -> Gpus:
        """How many GPUs each trial gets here; whether a machine has them, ``check`` tells.

        Args:
            resources: What the sweep config says.
            device: The device in the sweep config, with which the number must agree.

        Raises:
            UserError: The device and the number contradict each other.
        """
        if resources.gpu == "auto":
            found = Gpus(0.0, "device: cpu") if device == "cpu" else self._choose(resources)
        else:
            found = Gpus(resources.gpu)
        if device == "cuda" and not found.number:
            hint = found.why or "set resources.gpu to auto or 1; a fraction shares a GPU"
            raise UserError(f"device: cuda needs a GPU for each trial, and resources.gpu gives none ({hint})")
        if device == "cpu" and found.number:
            raise UserError(
                f"device: cpu, but resources.gpu gives each trial {found.number:g} GPU; set it to 0 or auto"
            )
        return found

    def _choose(self, resources: ResourcesConfig) -> Gpus:
        """A GPU for each worker if there are any for trials, otherwise none; with the reason."""
        one, share = resources.model_copy(update={"gpu": 1.0}), resources.workers == 1
        known = [machine for machine in self.to_come if not math.isinf(machine.get("GPU", 0.0))]
        if able := [machine for machine in self.machines if fitting(one, machine)]:
            gpus = sum(machine["GPU"] for machine in able)
            return Gpus(1.0, f"{self.name} has {'1 GPU' if gpus == 1 else f'{gpus:g} GPUs'}", to_measure=share)
        if any(fitting(one, machine) for machine in known):
            return Gpus(1.0, f"{self.name} can start machines with GPUs", to_measure=share)
        if self.problem is not None:
            return Gpus(0.0, self.problem)
        if any(machine.get("GPU") for machine in (*self.machines, *known)):
            return Gpus(0.0, f"no machine of {self.name} has a GPU and {resources.cpu} CPU")
        more_may_come = self.open_ended or len(known) < len(self.to_come)
        return Gpus(0.0, f"{self.name} has no GPU now" if more_may_come else f"{self.name} has no GPU")


def with_device(config: TrialConfig, resources: ResourcesConfig) -> TrialConfig:
    """The configuration of a training in this process, on the device that a sweep would give it.

    Args:
        config: Configuration of the training.
        resources: Resources of the sweep config.

    Raises:
        UserError: The device and the number of GPUs contradict each other.
    """
    if resources.gpu == "auto":
        return config
    Place(HERE, []).assign(resources, config.device)
    return config.model_copy(update={"device": "cuda" if resources.gpu else "cpu"})


def trials_per_gpu(gpus: float) -> int:
    """How many trials Ray puts on a GPU; 1 if a trial has a whole GPU, or several.

    Args:
        gpus: GPUs of a trial, more than 0.
    """
    return max(1, _UNITS // max(1, round(gpus * _UNITS)))


def memory_fraction(gpus: float, total: int, context: int) -> float:
    """Fraction of a GPU's memory that the tensors of a trial may use, so that the contexts of all trials have theirs.

    K trials on a GPU need K contexts beside their tensors: each may use (1 - K·context/total)/K.

    Args:
        gpus: GPUs of a trial, more than 0.
        total: Bytes of the GPU.
        context: Bytes of the context of a process.

    Returns:
        1 for a trial that has its GPU alone.

    Raises:
        UserError: The GPU is too small for the contexts.
    """
    trials = trials_per_gpu(gpus)
    if trials == 1:
        return 1.0
    left = 1 - trials * context / total
    if left <= 0:
        raise UserError(
            f"{trials} trials on a GPU of {total / 2**30:.1f} GiB leave no memory: the context of each takes about "
            f"{context / 2**30:.1f} GiB; set a larger resources.gpu"
        )
    return left / trials


def fitting(resources: ResourcesConfig, machine: Machine) -> float:
    """How many workers of trials fit on a machine at the same time.

    Args:
        resources: Resources of each trial, with a number of GPUs.
        machine: What the machine has.
    """
    by_cores = machine.get("CPU", 0.0) // resources.cpu
    gpus, cards = resources.gpus, machine.get("GPU", 0.0)
    if not gpus:
        return by_cores
    return min(by_cores, cards * trials_per_gpu(gpus) if gpus < 1 else cards // gpus)


def trials_at_once(resources: ResourcesConfig, machines: Iterable[Machine]) -> int:
    """How many trials fit on machines at the same time: the workers of a trial may be on several.

    Args:
        resources: Resources of each trial, with a number of GPUs.
        machines: What each machine has.
    """
    return int(sum(fitting(resources, machine) for machine in machines) // resources.workers)


def planned(resources: ResourcesConfig, gpus: Gpus) -> str:
    """What each trial gets, for the plan, such as ``2 workers (2 ranks), each 1 CPU, no GPU``.

    Args:
        resources: Resources of each trial, with a number of GPUs.
        gpus: The GPUs of each worker, and why.
    """
    each = f"{resources.cpu} CPU, {gpus}"
    if resources.ranks == 1:
        return each
    ranks = f"{counted(resources.workers, 'worker')} ({resources.ranks} ranks)"
    return f"{ranks}, each {each}" if resources.workers > 1 else f"{ranks} of {each}"


def describe(resources: ResourcesConfig) -> str:
    """The resources of a worker as text."""
    return f"{resources.cpu} CPU" + (f" and {resources.gpus:g} GPU" if resources.gpus else "")


def kinds_to_come() -> list[Machine]:
    """The kinds of nodes that an autoscaler may start, from the file that ``ray up`` leaves on the head node."""
    config = Path.home() / "ray_bootstrap_config.yaml"
    if not config.exists():
        return []
    kinds = yaml.safe_load(config.read_text(encoding="utf-8")).get("available_node_types", {}).values()
    return [kind.get("resources") or {"CPU": math.inf, "GPU": math.inf} for kind in kinds if kind.get("max_workers", 1)]
