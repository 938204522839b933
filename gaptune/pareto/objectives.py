"""What a sweep searches for: metrics, their directions, and the reference and ideal point of the hypervolume."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:  # numpy is imported where it is used: `gaptune --help` imports the ledger, too
    import numpy.typing as npt

    from gaptune.pareto.dominance import Points


@dataclass(frozen=True)
class Objective:
    """A metric that is searched for.

    Attributes:
        metric: Its name.
        maximize: Whether larger is better.
        reference: Worst value that still counts; NaN if there is none.
        ideal: Value of a perfect trial; NaN if there is none.
    """

    metric: str
    maximize: bool
    reference: float = math.nan
    ideal: float = math.nan

    @property
    def sign(self) -> float:
        """1 where larger is better, else -1."""
        return 1.0 if self.maximize else -1.0

    @property
    def goal(self) -> Literal["max", "min"]:
        """The direction, as sweep configs and tables name it."""
        return "max" if self.maximize else "min"


class Objectives(tuple[Objective, ...]):
    """Two or more objectives in their order. Arrays have a column for each."""

    __slots__ = ()

    @property
    def metrics(self) -> list[str]:
        """The names of the metrics."""
        return [objective.metric for objective in self]

    @property
    def directions(self) -> list[Literal["maximize", "minimize"]]:
        """Optuna's names of the directions: ``maximize`` or ``minimize``."""
        return ["maximize" if objective.maximize else "minimize" for objective in self]

    @property
    def reference_point(self) -> Points:
        """The reference point, larger is better in every coordinate."""
        return self.maximized([objective.reference for objective in self]).reshape(-1)

    @property
    def ideal_point(self) -> Points:
        """The ideal point, larger is better in every coordinate."""
        return self.maximized([objective.ideal for objective in self]).reshape(-1)

    @property
    def unbounded(self) -> list[str]:
        """The metrics that lack a reference or an ideal value: with any of them there is no hypervolume."""
        return [one.metric for one in self if not math.isfinite(one.reference + one.ideal)]

    def maximized(self, values: npt.ArrayLike) -> Points:
        """Turns values so that larger is better in every column. Applied again, it turns them back.

        Args:
            values: Shape (n, m) or (m,).

        Returns:
            Shape (n, m).
        """
        import numpy as np

        signs = np.array([objective.sign for objective in self])
        return np.asarray(np.asarray(values, dtype=np.float64).reshape(-1, len(self)) * signs)

    def hypervolume(self, values: npt.ArrayLike) -> float:
        """The fraction of the volume between reference and ideal point that values dominate; NaN if one is unknown.

        Args:
            values: Shape (n, m), in the units of the metrics.
        """
        from gaptune.pareto.hypervolume import normalized_hypervolume

        return normalized_hypervolume(self.maximized(values), self.reference_point, self.ideal_point)
