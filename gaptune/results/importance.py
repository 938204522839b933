"""How much each knob matters for each objective."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Literal

import optuna

from gaptune.ledger import SweepRecord
from gaptune.results.front import Candidate, candidates
from gaptune.space import Space

Evaluator = Literal["ped_anova", "fanova"]
_ENOUGH = 8


@dataclass(frozen=True)
class Importance:
    """The share of an objective's variation that a knob accounts for.

    Attributes:
        objective: Metric.
        knob: Dotted path.
        share: From 0 to 1; the shares of an objective add up to 1.
        trials: Candidates that it was worked out from: those in which the knob has a value.
    """

    objective: str
    knob: str
    share: float
    trials: int


def importances(record: SweepRecord, evaluator: Evaluator = "ped_anova", method: str | None = None) -> list[Importance]:
    """Importance of the knobs that varied, by Optuna, over the completed candidates.

    Args:
        record: The sweep.
        evaluator: ``ped_anova`` (Watanabe et al. 2023: which knobs make a trial a good one) or ``fanova`` (Hutter et
            al. 2014: which knobs make trials differ).
        method: Only candidates of this method family (a trial's ``method``); None for all.

    Returns:
        For each objective, the knobs from the most important on; knobs that not every candidate has are left out, as
        Optuna asks, and an objective with fewer than 8 candidates is.
    """
    chosen = [one for one in candidates(record) if method is None or one.trial.method == method]
    if len(chosen) < _ENOUGH:
        return []
    space = Space.from_dict(record.header["space"])
    found = []
    for index, objective in enumerate(record.objectives):
        study = _study(space, chosen, index, maximize=bool(objective["maximize"]))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            judge = (
                optuna.importance.PedAnovaImportanceEvaluator()
                if evaluator == "ped_anova"
                else optuna.importance.FanovaImportanceEvaluator(seed=0)
            )
            try:
                shares = optuna.importance.get_param_importances(study, evaluator=judge)
            except (ValueError, RuntimeError):  # no knob is in all of them, or none of them varies
                continue
        found += [Importance(objective["metric"], knob, share, len(chosen)) for knob, share in shares.items()]
    return found


def _study(space: Space, chosen: list[Candidate], index: int, *, maximize: bool) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize" if maximize else "minimize")
    for candidate in chosen:
        if math.isfinite(candidate.values[index]):
            params = space.params(candidate.trial.knobs)
            fixed = optuna.trial.FixedTrial(params)
            space.suggest(fixed)
            study.add_trial(
                optuna.trial.create_trial(
                    params={name: params[name] for name in fixed.distributions},
                    distributions=fixed.distributions,
                    value=candidate.values[index],
                )
            )
    return study
