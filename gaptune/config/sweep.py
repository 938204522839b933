"""Schema of a sweep config: objectives, constraints, search, early stopping, and resources."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    Field,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    field_validator,
    model_validator,
)

from gaptune.config.document import Document, flow, read_yaml, validate
from gaptune.config.params import with_params
from gaptune.config.trial import Place, Schema, TrialConfig, as_tuple
from gaptune.errors import did_you_mean
from gaptune.metrics.table import METRICS, TASK_METRICS, Metric, excess, find_metric
from gaptune.pareto.objectives import Objective, Objectives


def _known_metric(name: str) -> str:
    if find_metric(name) is None:
        group, _, metric = name.partition("/")
        of_evaluations = [f"{group}/{each}" for each in TASK_METRICS] if metric else []
        raise ValueError(f"unknown metric {name!r}{did_you_mean(name, [*METRICS, *of_evaluations])}")
    return name


def _metric(name: str) -> Metric:
    metric = find_metric(name)
    assert metric is not None  # names are validated when the config is read
    return metric


MetricName = Annotated[str, AfterValidator(_known_metric)]
Coordinate = Annotated[float, Field(ge=-1e9, le=1e9)]
"""Coordinate of the reference point or the ideal point; bounded, so that a hypervolume cannot overflow."""

MOST_CANDIDATES = 1_000_000
"""Largest number of candidates in a sweep; each trial is a line in the ledger and an MLflow run."""


class ObjectiveConfig(Schema):
    """A metric to optimize.

    Attributes:
        metric: Name of the metric.
        direction: ``max`` or ``min``; by default the direction of the metric.
        reference: Worst value that still counts: a coordinate of the reference point of the hypervolume.
        ideal: Best possible value: a coordinate of the ideal point, which scales the hypervolume to [0, 1].
    """

    metric: MetricName
    direction: Literal["max", "min"] | None = None
    reference: Coordinate
    ideal: Coordinate

    @model_validator(mode="after")
    def _ordered(self) -> ObjectiveConfig:
        if _metric(self.metric).direction == "none" and self.direction is None:
            raise ValueError(f"{self.metric} has no default direction: set direction to max or min")
        if abs(self.ideal - self.reference) < 1e-9 or self.maximize != (self.ideal > self.reference):
            side = "above" if self.maximize else "below"
            raise ValueError(f"ideal {self.ideal:g} must be {side} reference {self.reference:g}")
        return self

    @property
    def maximize(self) -> bool:
        """Whether larger is better."""
        return (self.direction or _metric(self.metric).direction) == "max"


class ConstraintConfig(Schema):
    """A bound on the final value of a metric, for candidates on the front.

    Attributes:
        metric: Name of the metric.
        min: Smallest allowed value; None for no lower bound.
        max: Largest allowed value; None for no upper bound.
    """

    metric: MetricName
    min: float | None = None
    max: float | None = None

    @model_validator(mode="after")
    def _bounded(self) -> ConstraintConfig:
        if self.min is None and self.max is None:
            raise ValueError(f"the constraint on {self.metric} needs min or max")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min:g} is above max {self.max:g}")
        return self

    def violation(self, value: float) -> float:
        """Amount by which a value violates the constraint; 0 or less if the constraint is satisfied."""
        return excess(value, self.min, self.max)


class SearchConfig(Schema):
    """How the search proposes candidates.

    Attributes:
        sampler: ``tpe``, ``nsga2``, ``gp``, or ``random`` of Optuna; or ``grid``.
        candidates: Number of candidates; a grid has its own number.
        seed: Seed of the sampler.
        startup_trials: Number of random candidates before the sampler uses its model.
        seeds: Number of seeds on which each candidate is trained; the sampler learns the mean.
    """

    sampler: Literal["tpe", "nsga2", "gp", "random", "grid"] = "tpe"
    candidates: Annotated[int, Field(ge=1, le=MOST_CANDIDATES)] = 16
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    startup_trials: Annotated[int, Field(ge=0, le=MOST_CANDIDATES)] = 8
    seeds: Annotated[int, Field(ge=1, le=100)] = 1


class EarlyStoppingConfig(Schema):
    """Early stopping of trials.

    Attributes:
        method: ``none``, ``asha`` (asynchronous successive halving, for several objectives) or ``random`` (the same
            rungs and fractions with random ranks, for comparison).
        reduction_factor: The best ⌊n/reduction_factor⌋ of the n candidates at a rung continue, at least one.
        min_fraction: Fraction of training at the first rung; each rung is reduction_factor times as far as the last.
        brackets: Number of brackets, which the trials use in turn; bracket b leaves out the first b rungs.
        priority: Order within a non-dominated layer.
        schedule_aware: Whether trials whose τ still changes are compared only among themselves.
        settling_ratio: Smallest factor between start and end of a schedule that counts as a change.
        seed: Random seed of the method ``random``.
    """

    method: Literal["none", "asha", "random"] = "none"
    reduction_factor: Annotated[float, Field(gt=1.0)] = 3.0
    min_fraction: Annotated[float, Field(gt=0.0, lt=1.0)] = 1 / 9
    brackets: Annotated[int, Field(ge=1, le=100)] = 1
    priority: Literal["epsilon_net", "crowding", "hypervolume"] = "epsilon_net"
    schedule_aware: bool = True
    settling_ratio: Annotated[float, Field(ge=1.0)] = 1.5
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0

    @model_validator(mode="after")
    def _countable(self) -> EarlyStoppingConfig:
        rungs = -math.log(self.min_fraction) / math.log(self.reduction_factor)
        if rungs > 100:
            raise ValueError(
                f"min_fraction {self.min_fraction:g} and reduction_factor {self.reduction_factor:g} make {rungs:,.0f} "
                "rungs; at most 100 are allowed"
            )
        return self


def _number_of_gpus(given: Any, check: ValidatorFunctionWrapHandler) -> Any:
    """One message for whatever is neither a number of GPUs that Ray can place, nor ``auto``."""
    if given == "auto":
        return given
    if isinstance(given, bool | str) or not isinstance(given, int | float) or not 0 <= given < math.inf:
        raise ValueError(f"expected a number of at least 0, or auto, got {flow(given)}")
    if given > 1 and given % 1:
        raise ValueError(f"{given:g} GPUs: use a whole number, or a fraction below 1 to share a GPU")
    if 0 < given < 1e-4:
        raise ValueError(f"{given:g} GPUs: the smallest fraction of a GPU is 0.0001")
    return check(float(given))


MOST_LANES = 64
"""Largest number of trials that a worker trains together."""


MOST_WORKERS = 1024
"""Largest number of workers that train a trial together."""


def ranks_per_worker(gpus: float) -> int:
    """Number of processes of a worker that train a trial: one for each of its GPUs, and one without GPUs.

    Args:
        gpus: GPUs of the worker, or a fraction of one.
    """
    return max(1, int(gpus))


def _number_of_lanes(given: Any, check: ValidatorFunctionWrapHandler) -> Any:
    """One message for whatever is neither a number of lanes nor ``auto``."""
    if given != "auto" and (type(given) is not int or not 1 <= given <= MOST_LANES):
        raise ValueError(f"expected a whole number from 1 to {MOST_LANES}, or auto, got {flow(given)}")
    return check(given)


class ResourcesConfig(Schema):
    """Resources of each trial.

    Attributes:
        workers: Number of workers that train a trial together, each on one machine. A worker is one process (a rank)
            for each of its GPUs, and one without GPUs.
        cpu: Number of CPU cores and threads per worker, which its ranks share.
        gpu: Number of GPUs per worker, each of which is used by a rank of its own; a fraction shares a GPU. ``auto``
            gives each worker a GPU, or a trial of one worker a measured fraction of one, if there are GPUs where the
            sweep runs, and otherwise none. A trial with 0 sees no GPU; a trial with more does not train without one.
        lanes: Largest number of trials that a worker trains together, as one. ``auto`` chooses 16 for small models on a
            GPU and otherwise 1.
        concurrency: Largest number of trials in parallel, or of groups of ``lanes`` trials; None for as many as fit.
        system_metrics: Whether each report contains the CPU, memory, and GPU use of the trial.
        stall_minutes: Minutes without a finished step or batch after which a worker is replaced and its trial resumes
            from its last checkpoint; None or 0 for never.
    """

    workers: Annotated[int, Field(ge=1, le=MOST_WORKERS)] = 1
    cpu: Annotated[int, Field(ge=1)] = 1
    gpu: Annotated[Annotated[float, Field(ge=0.0)] | Literal["auto"], WrapValidator(_number_of_gpus)] = "auto"
    lanes: Annotated[Annotated[int, Field(ge=1, le=MOST_LANES)] | Literal["auto"], WrapValidator(_number_of_lanes)] = (
        "auto"
    )
    concurrency: Annotated[int, Field(ge=1)] | None = None
    system_metrics: bool = False
    stall_minutes: Annotated[float, Field(ge=0.0)] | None = 60.0

    @model_validator(mode="after")
    def _consistent(self) -> ResourcesConfig:
        if self.gpu == "auto":
            return self
        if self.workers > 1 and 0 < self.gpu < 1:
            raise ValueError(
                f"workers: {self.workers} with gpu: {self.gpu:g}: only a trial of one worker can share a GPU; set gpu "
                "to a whole number"
            )
        if self.ranks > 1 and self.lanes not in (1, "auto"):
            raise ValueError(f"lanes: {self.lanes} with {self.ranks} ranks per trial: set lanes to 1 or auto")
        return self

    @property
    def gpus(self) -> float:
        """``gpu`` as a number, for code that runs after ``auto`` was replaced."""
        assert self.gpu != "auto"
        return self.gpu

    @property
    def ranks(self) -> int:
        """Number of processes that train a trial together."""
        return self.workers * ranks_per_worker(self.gpus)

    @property
    def num_lanes(self) -> int:
        """``lanes`` as a number, for code that runs after ``auto`` was replaced."""
        assert self.lanes != "auto"
        return self.lanes


class SweepConfig(TrialConfig):
    """How trials run, and what the sweep optimizes. The fields of ``TrialConfig`` are the base values of each trial.

    ``storage`` is a URL to which gaptune copies the ledger and the checkpoints, so that other machines can resume the
    sweep. ``checkpoints`` selects the trials that keep their weights: ``complete`` trials, trials on the ``front`` (the
    other weights are deleted at the end of the sweep), or ``all`` trials, which also keep their optimizer state.
    """

    objectives: Annotated[tuple[ObjectiveConfig, ...], Field(min_length=2, max_length=4)]
    constraints: tuple[ConstraintConfig, ...] = ()
    search: SearchConfig = SearchConfig()
    early_stopping: EarlyStoppingConfig = EarlyStoppingConfig()
    resources: ResourcesConfig = ResourcesConfig()
    storage: Place | None = None
    checkpoints: Literal["complete", "front", "all"] = "complete"

    @field_validator("objectives", "constraints", mode="before")
    @classmethod
    def _frozen(cls, entries: Any) -> Any:
        return as_tuple(entries)

    @field_validator("objectives")
    @classmethod
    def _distinct(cls, objectives: tuple[ObjectiveConfig, ...]) -> tuple[ObjectiveConfig, ...]:
        names = [objective.metric for objective in objectives]
        if len(set(names)) < len(names):
            raise ValueError("duplicate metric")
        return objectives

    @model_validator(mode="after")
    def _measured(self) -> SweepConfig:
        """Checks that evaluations measure the metrics of objectives and constraints early enough."""
        when = {metric: evaluation.when for evaluation in self.evaluate for metric in evaluation.metrics}
        for metric in self.asked:
            if metric in METRICS:
                continue
            if metric not in when:
                raise ValueError(f"{metric} is not measured: add it to evaluate{did_you_mean(metric, when)}")
            if when[metric] == "front":
                raise ValueError(f"{metric} is measured only for candidates on the front: set when to end or epoch")
            if when[metric] == "end" and self.early_stopping.method != "none":
                raise ValueError(
                    f"{metric} is measured only at the end, too late for early stopping: set when to epoch"
                )
        return self

    @property
    def wanted(self) -> Objectives:
        """The objectives in the form that ``gaptune.pareto`` uses."""
        return Objectives(Objective(one.metric, one.maximize, one.reference, one.ideal) for one in self.objectives)

    @property
    def asked(self) -> list[str]:
        """The metrics of the objectives and constraints."""
        return [each.metric for each in self.objectives] + [each.metric for each in self.constraints]

    def trial(self, params: Mapping[str, Any]) -> TrialConfig:
        """Returns the full configuration of a trial with some params.

        Args:
            params: Values by dotted path, without ``method``.

        Raises:
            UserError: A parameter is unknown or its value is invalid.
        """
        base = {name: getattr(self, name) for name in TrialConfig.model_fields}
        return with_params(TrialConfig.model_construct(**base), params)


def load_sweep_config(path: Path | str) -> SweepConfig:
    """Reads a sweep config.

    Raises:
        UserError: The file is missing or invalid. The message names the file and the line.
    """
    document: Document = read_yaml(path)
    return validate(document, SweepConfig)
