"""What the driver and its workers tell each other through Ray, which carries dicts only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

_METRIC = "metrics/"


@dataclass(frozen=True)
class WorkerTask:
    """One trial for a worker.

    Attributes:
        number: The trial's number.
        config: The trial's ``TrialConfig``, as a mapping.
        event: The trial's line in the ledger.
        data: The trial's ``DataConfig``, as a mapping.
        weights: Hash of the weights that the sweep starts from; None for random ones.
        checkpoints: A folder that outlives the worker, or a URL.
        threads: Number of CPU threads.
        gpu: Number of GPUs, or a fraction of one.
        folder: The folder to which relative paths are relative.
        progress: The key under which the worker writes that it makes progress.
        system_metrics: Whether to report what the worker uses of its machine.
        given_up: Whether the trial has failed for good, although Ray tries it again.
    """

    number: int
    config: dict[str, Any]
    event: dict[str, Any]
    data: dict[str, Any]
    weights: str | None
    checkpoints: str
    threads: int
    gpu: float
    folder: str
    progress: str
    system_metrics: bool
    given_up: bool = False

    def to_ray(self) -> dict[str, Any]:
        """The task as the config of a Ray trial."""
        return asdict(self)

    @classmethod
    def from_ray(cls, config: Mapping[str, Any]) -> WorkerTask:
        """The task in the config of a Ray trial."""
        return cls(**{each.name: config[each.name] for each in fields(cls) if each.name in config})


@dataclass(frozen=True)
class WorkerMessage:
    """What a worker reports: metrics, or why there will be no further one.

    An error that a retry may cure is not a message: the worker lets Ray see the exception.

    Attributes:
        epoch: Epochs trained so far.
        step: Optimizer steps so far.
        metrics: Metrics of the epoch.
        failure: Why this trial cannot continue, and a retry would not help.
        halt: Why no trial can continue.
    """

    epoch: int = 0
    step: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict)
    failure: str | None = None
    halt: str | None = None

    def to_ray(self) -> dict[str, Any]:
        """The message as the result of a Ray trial."""
        return asdict(self)

    @classmethod
    def from_ray(cls, result: Mapping[str, Any]) -> WorkerMessage:
        """The message in the result of a Ray trial, in which nested keys are joined by slashes."""
        metrics = {key.removeprefix(_METRIC): value for key, value in result.items() if key.startswith(_METRIC)}
        known = {each.name: result[each.name] for each in fields(cls) if each.name in result}
        return cls(**{**known, "metrics": metrics or known.get("metrics", {})})
