"""How well early stopping's rungs ranked the candidates that were trained to the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gaptune.ledger import SweepRecord
from gaptune.ledger.candidate import Candidate
from gaptune.pareto.dominance import layers
from gaptune.results.front import candidates
from gaptune.results.unknown import Unknown, Why
from gaptune.search.rungs import cohort, rung_epoch, rung_fractions

ENOUGH = 5
"""Completed candidates below which a rung's agreement with the end is not judged."""
BLIND = 0.2
"""Kendall's τ at or below which a rung is called blind."""


@dataclass(frozen=True)
class RungRanking:
    """One rung, one cohort.

    Attributes:
        fraction: Fraction of training at the rung.
        cohort: Those that were compared with each other; see ``gaptune.search.rungs.cohort``.
        count: Completed candidates that passed it.
        kendall: Kendall's τ-b between their non-domination ranks at the rung and at the end: 1 the same order, 0 no
            relation, -1 the reverse. None where it is not known.
        unknown: Why not: too few candidates, or all of one rank.
    """

    fraction: float
    cohort: str
    count: int
    kendall: float | None
    unknown: Unknown | None = None

    @property
    def blind(self) -> bool:
        """Whether ranks at this rung do not predict final ranks, among the candidates trained to the end."""
        return self.kendall is not None and self.kendall <= BLIND


def rank_rungs(record: SweepRecord) -> list[RungRanking]:
    """Compares the order at each rung with the order at the end.

    Only completed candidates count: how a stopped one would have ended is unknown. Early stopping leaves the better
    ones, which are harder to distinguish, so τ is underestimated. Without early stopping (method ``none``) it is what
    ``asha`` would have seen.

    Args:
        record: A sweep, finished or not.

    Returns:
        An entry for each rung and cohort that somebody passed, in the order of the rungs.
    """
    from gaptune.config import EarlyStoppingConfig  # pydantic's models take long to import

    config = EarlyStoppingConfig.model_validate(record.header.early_stopping)
    complete = candidates(record)
    found = []
    for fraction in rung_fractions(config):
        cohorts: dict[str, list[Candidate]] = {}
        for candidate in complete:
            trial = candidate.trial
            epoch = rung_epoch(fraction, trial)
            if epoch < trial.epochs:
                name = cohort(config, trial.config, epoch / trial.epochs)
                cohorts.setdefault(name, []).append(candidate)
        for name, members in sorted(cohorts.items()):
            agreement = _agreement(record, members, fraction)
            known, why = (None, agreement) if isinstance(agreement, Unknown) else (agreement, None)
            found.append(RungRanking(fraction, name, len(members), known, why))
    return found


def _agreement(record: SweepRecord, compared: Sequence[Candidate], fraction: float) -> float | Unknown:
    if len(compared) < ENOUGH:
        return Unknown(Why.TOO_FEW, f"too few completed candidates ({len(compared)}) to judge this rung")
    from scipy.stats import kendalltau  # half a second, which a table without rungs need not wait for

    early, late = [], []
    for candidate in compared:
        early.append(candidate.values_at(rung_epoch(fraction, candidate.trial)))
        late.append(candidate.values)
    ranks = [layers(record.objectives.maximized(values)) for values in (early, late)]
    if min(len(np.unique(rank)) for rank in ranks) < 2:
        return Unknown(Why.CONSTANT, f"all {len(compared)} trained to the end are of one rank there, or at the end")
    return float(kendalltau(*ranks).statistic)
