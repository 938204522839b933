"""What a sweep is, as the first line of its ledger says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gaptune.errors import UserError
from gaptune.ledger.events import SCHEMA, Event
from gaptune.metrics.table import excess
from gaptune.pareto.objectives import Objective, Objectives


@dataclass(frozen=True)
class Constraint:
    """Bounds that the mean of a metric must keep.

    Attributes:
        metric: Its name.
        min: Smallest allowed value; None for no such bound.
        max: Largest allowed value; None for no such bound.
    """

    metric: str
    min: float | None = None
    max: float | None = None

    def violation(self, value: float) -> float:
        """By how much a value breaks it: 0 or less if it is kept, NaN for NaN."""
        return excess(value, self.min, self.max)

    def keeps(self, value: float) -> bool:
        """Whether a value is within the bounds; NaN never is."""
        return self.violation(value) <= 0

    def __str__(self) -> str:
        """The constraint in a person's notation, such as ``geometry/gap <= 0.3``."""
        if self.min is not None and self.max is not None:
            return f"{self.min:g} <= {self.metric} <= {self.max:g}"
        return f"{self.metric} >= {self.min:g}" if self.max is None else f"{self.metric} <= {self.max:g}"


@dataclass(frozen=True)
class DataInfo:
    """The data that a sweep is trained on.

    Attributes:
        store: Its place, or the name of a mixture.
        name: The name in its metadata.
        hash: SHA-256 of its content.
        splits: Number of images by split.
    """

    store: str = ""
    name: str = ""
    hash: str = ""
    splits: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class KnownTrial:
    """A trial of an earlier sweep from which the sampler learns.

    Attributes:
        config: Its configuration, flattened.
        values: Means of the objectives.
        violations: By how much each constraint is broken.
    """

    config: Mapping[str, Any]
    values: list[float]
    violations: Mapping[str, float]


@dataclass(frozen=True)
class SweepHeader:
    """The ``sweep`` event. It is false for a ledger without one.

    Attributes:
        event: The event as it is written.
        id: Random id.
        name: The sweep's name.
        at: Start time in seconds since 1970.
        space: The search space, as ``gaptune.space.parse.parse_space`` takes it.
        varied: The parameters that vary, and ``method`` if the method does.
        config: The sweep config by groups, as ``SweepConfig`` takes it.
        base: The configuration of a trial before the search sets parameters, flattened.
        objectives: The objectives.
        constraints: The constraints.
        data: The data.
        weights: Hash of the weights that training starts from; None for random ones.
        known: Trials of an earlier sweep from which the sampler learns.
        command: The command that started it.
        versions: Versions of Python and of packages, by name.
    """

    event: Event = field(default_factory=dict, repr=False)
    id: str = ""
    name: str = ""
    at: float = 0.0
    space: Mapping[str, Any] = field(default_factory=dict)
    varied: tuple[str, ...] = ()
    config: Mapping[str, Any] = field(default_factory=dict)
    base: Mapping[str, Any] = field(default_factory=dict)
    objectives: Objectives = field(default_factory=Objectives)
    constraints: tuple[Constraint, ...] = ()
    data: DataInfo = DataInfo()
    weights: str | None = None
    known: tuple[KnownTrial, ...] = ()
    command: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)

    @staticmethod
    def parse(event: Event) -> SweepHeader:
        """The header of a ``sweep`` event; what the event lacks stays empty.

        Raises:
            UserError: The ledger has another schema.
        """
        schema = event.get("schema", SCHEMA)
        if schema != SCHEMA:
            name = event.get("name")
            raise UserError(f"the ledger of sweep {name!r} has schema {schema}; this gaptune reads schema {SCHEMA}")
        config = event.get("config", {})
        constraints = tuple(Constraint(**one) for one in config.get("constraints", ()))
        kept = {constraint.metric: 0.0 for constraint in constraints}  # 0.1.0 did not say by how much at first
        given = ("id", "name", "at", "space", "base", "weights", "command", "versions")
        return SweepHeader(
            event=event,
            varied=tuple(event.get("varied", ())),
            config=config,
            objectives=Objectives(Objective(**one) for one in event.get("objectives", ())),
            constraints=constraints,
            data=DataInfo(**event.get("data", {})),
            known=tuple(KnownTrial(one[0], one[1], one[2] if len(one) > 2 else kept) for one in event.get("known", ())),
            **{name: event[name] for name in given if name in event},
        )

    def __bool__(self) -> bool:
        return bool(self.event)

    @property
    def space_name(self) -> str:
        """The name of the search space."""
        return str(self.space["name"])

    @property
    def varied_params(self) -> list[str]:
        """The parameters that vary, without ``method``."""
        return [name for name in self.varied if name != "method"]

    @property
    def seeds(self) -> int:
        """Trials of each candidate."""
        return int(self.config.get("search", {}).get("seeds", 1))

    @property
    def first_seed(self) -> int:
        """The seed of each candidate's first trial."""
        return int(self.config["seed"])

    @property
    def early_stopping(self) -> Mapping[str, Any]:
        """The configuration of early stopping; its ``method`` is ``none`` where there is none."""
        early_stopping: Mapping[str, Any] = self.config["early_stopping"]
        return early_stopping

    @property
    def storage(self) -> str | None:
        """The URL below which ledger and checkpoints are copied."""
        storage: str | None = self.config.get("storage")
        return storage

    @property
    def cpus(self) -> int:
        """CPU cores of a trial."""
        return int(self.config["resources"]["cpu"])

    @property
    def gpus(self) -> float | None:
        """GPUs of a trial; None if each session finds the number by itself."""
        gpus = self.config["resources"]["gpu"]
        return None if gpus == "auto" else float(gpus)
