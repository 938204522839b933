"""What the driver and its workers tell each other through Ray, which carries dicts only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from gaptune.config.sweep import ranks_per_worker


@dataclass(frozen=True)
class TrialTask:
    """One trial of a worker.

    Attributes:
        number: The trial's number.
        config: The trial's ``TrialConfig``, as a mapping.
        event: The trial's line in the ledger.
        checkpoints: A folder that outlives the worker, or a URL.
    """

    number: int
    config: dict[str, Any]
    event: dict[str, Any]
    checkpoints: str


@dataclass(frozen=True)
class WorkerTask:
    """The trials of a worker: one, or several that it trains as lanes.

    Attributes:
        trials: The trials; none if Ray tries them again although they have ended, or run elsewhere now.
        data: The trials' ``DataConfig``, as a mapping.
        weights: Hash of the weights that the sweep starts from; None for random ones.
        workers: Number of workers that train the trial together.
        cpu: Number of CPU cores of each.
        gpu: Number of GPUs of each, or a fraction of one.
        folder: The folder to which relative paths are relative.
        place: The prefix of the worker's keys in the cluster's key-value store, unique among all sweeps.
        system_metrics: Whether to report what the worker uses of its machine.
    """

    trials: tuple[TrialTask, ...]
    data: dict[str, Any]
    weights: str | None
    workers: int
    cpu: int
    gpu: float
    folder: str
    place: str
    system_metrics: bool

    @property
    def ranks_per_worker(self) -> int:
        """Number of processes of a worker that train the trial."""
        return ranks_per_worker(self.gpu)

    @property
    def ranks(self) -> int:
        """Number of processes that train the trial together."""
        return self.workers * self.ranks_per_worker

    @property
    def threads(self) -> int:
        """Number of CPU threads of each process."""
        return max(1, self.cpu // self.ranks_per_worker)

    @property
    def numbers(self) -> tuple[int, ...]:
        """The trials' numbers."""
        return tuple(trial.number for trial in self.trials)

    def to_ray(self) -> dict[str, Any]:
        """The task as the config of a Ray trial."""
        return asdict(self)

    @classmethod
    def from_ray(cls, config: Mapping[str, Any]) -> WorkerTask:
        """The task in the config of a Ray trial."""
        known = {each.name: config[each.name] for each in fields(cls)}
        return cls(**{**known, "trials": tuple(TrialTask(**trial) for trial in config["trials"])})


@dataclass(frozen=True)
class TrialMessage:
    """What a worker reports of one of its trials: metrics, or why there will be no further one.

    Attributes:
        number: The trial's number.
        epoch: Epochs trained so far.
        step: Optimizer steps so far.
        metrics: Metrics of the epoch.
        failure: Why this trial cannot continue, and a retry would not help.
    """

    number: int
    epoch: int = 0
    step: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict)
    failure: str | None = None


@dataclass(frozen=True)
class WorkerMessage:
    """What a worker reports: of some of its trials, or why all of them end.

    An error that a retry may cure is not a message: the worker lets Ray see the exception.

    Attributes:
        trials: What it reports of each trial.
        failure: Why the worker cannot continue with its trials, and a retry with the same trials would not help.
        too_large: Whether it fails because its trials together need too much memory.
        halt: Why no trial can continue.
    """

    trials: tuple[TrialMessage, ...] = ()
    failure: str | None = None
    too_large: bool = False
    halt: str | None = None

    @property
    def ends(self) -> bool:
        """Whether none of the trials continues."""
        return self.failure is not None or self.halt is not None

    def to_ray(self) -> dict[str, Any]:
        """The message as the result of a Ray trial. Ray leaves lists as they are, and joins the keys of mappings."""
        return {**asdict(self), "trials": [asdict(trial) for trial in self.trials]}

    @classmethod
    def from_ray(cls, result: Mapping[str, Any]) -> WorkerMessage:
        """The message in the result of a Ray trial."""
        known = {each.name: result[each.name] for each in fields(cls)}
        return cls(**{**known, "trials": tuple(TrialMessage(**trial) for trial in result["trials"])})
