"""How much each knob matters for each objective."""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import optuna
from optuna.trial import FrozenTrial

from gaptune.ledger import State, SweepRecord
from gaptune.results.front import Candidate, candidates
from gaptune.results.unknown import Unknown, Why, too_few, varies
from gaptune.space.parse import parse_space

Evaluator = Literal["ped_anova", "fanova"]
ENOUGH = 8
"""Candidates below which nothing is said of knobs."""
_MOST_FANOVA = 1000


@dataclass(frozen=True)
class Importance:
    """The share of an objective's variation that a knob accounts for.

    Attributes:
        objective: Metric.
        knob: Dotted path.
        share: From 0 to 1; the shares of an objective add up to 1.
        trials: Candidates in which the knob has a value, of those that were looked at.
    """

    objective: str
    knob: str
    share: float
    trials: int


class Importances(list[Importance]):
    """For each objective, the knobs from the most important on.

    Attributes:
        unknown: By objective that has no shares, why they are not known.
    """

    def __init__(self, shares: Iterable[Importance], unknown: Mapping[str, Unknown]) -> None:
        super().__init__(shares)
        self.unknown = dict(unknown)


def importances(record: SweepRecord, evaluator: Evaluator = "ped_anova", method: str | None = None) -> Importances:
    """Importance of the knobs that varied, by Optuna, over the completed candidates.

    Args:
        record: The sweep.
        evaluator: ``ped_anova`` (Watanabe et al. 2023, with its treatment of conditional knobs: which knobs tell the
            best tenth from the rest) or ``fanova`` (Hutter et al. 2014: which knobs make candidates differ; only knobs
            that all of them have, and at most 1,000 candidates, drawn at random: its cost grows fast).
        method: Only candidates of this method family (a trial's ``method``); None for all.

    Returns:
        The shares; an objective has none with fewer than 8 candidates, without a knob that varied, or with the same
        score for all.
    """
    chosen = [one for one in candidates(record) if method is None or one.trial.method == method]
    chosen = [one for one in chosen if all(map(math.isfinite, one.values))]
    if evaluator == "fanova" and len(chosen) > _MOST_FANOVA:
        rows = np.random.default_rng(0).choice(len(chosen), _MOST_FANOVA, replace=False)
        chosen = [chosen[row] for row in sorted(rows)]
    metrics = [objective["metric"] for objective in record.objectives]
    if len(chosen) < ENOUGH:
        complete = record.count(State.COMPLETE)
        why = too_few(len(chosen), ENOUGH, "complete" if method is None else f"complete with method {method}")
        if len(chosen) == 1 and method is None and complete >= ENOUGH:
            why = Unknown(Why.NOTHING_VARIED, f"no knob varies: all {complete} complete trials have the same knobs")
        return Importances([], dict.fromkeys(metrics, why))
    study = _study(record, chosen)
    tried: dict[str, Counter[Any]] = {}  # PED-ANOVA gives a share to a choice of which all have taken the same one
    for trial in study.get_trials(deepcopy=False):
        for knob, value in trial.params.items():
            tried.setdefault(knob, Counter())[value] += 1
    if not any(len(values) > 1 for values in tried.values()):
        why = Unknown(Why.NOTHING_VARIED, f"no knob varies among the {len(chosen)} candidates")
        return Importances([], dict.fromkeys(metrics, why))
    found: list[Importance] = []
    unknown: dict[str, Unknown] = {}
    for index, objective in enumerate(record.objectives):
        if not varies([one.values[index] for one in chosen]):
            text = f"{metrics[index]} is the same for all {len(chosen)} candidates"
            unknown[metrics[index]] = Unknown(Why.CONSTANT, text)
            continue
        sign = -1.0 if objective["maximize"] else 1.0  # PED-ANOVA takes less for better; fANOVA does not mind

        def target(trial: FrozenTrial, index: int = index, sign: float = sign) -> float:
            return sign * float(trial.values[index])

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            judge = (
                optuna.importance.PedAnovaImportanceEvaluator()
                if evaluator == "ped_anova"
                else optuna.importance.FanovaImportanceEvaluator(seed=0)
            )
            try:
                shares = optuna.importance.get_param_importances(study, evaluator=judge, target=target)
            except (ValueError, RuntimeError):  # no knob is in all of them
                shares = {}
        varied = {knob: share for knob, share in shares.items() if len(tried[knob]) > 1}
        total = sum(varied.values())
        if not total > 0:
            unknown[metrics[index]] = _no_share(bool(varied), evaluator)
            continue
        found += [
            Importance(metrics[index], knob, share / total, sum(tried[knob].values())) for knob, share in varied.items()
        ]
    return Importances(found, unknown)


def _no_share(judged: bool, evaluator: Evaluator) -> Unknown:
    if judged:
        return Unknown(Why.NO_DIFFERENCE, "no knob tells better candidates from worse ones")
    return Unknown(
        Why.NOTHING_VARIED, "no knob that all candidates have varies" if evaluator == "fanova" else "no knob varies"
    )


def families(record: SweepRecord) -> list[str]:
    """The method families with enough completed candidates for ``importances(record, method=…)``, by name."""
    counts = Counter(one.trial.method for one in candidates(record))
    return sorted(method for method, count in counts.items() if count >= ENOUGH)


def _study(record: SweepRecord, chosen: list[Candidate]) -> optuna.Study:
    """The candidates as an Optuna study in memory; each with the knobs that its conditions leave it."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space = parse_space(record.header["space"])
    study = optuna.create_study(directions=["maximize" if o["maximize"] else "minimize" for o in record.objectives])
    frozen = []
    for candidate in chosen:
        params = space.params(candidate.trial.knobs)
        fixed = optuna.trial.FixedTrial(params)
        space.suggest(fixed)
        frozen.append(
            optuna.trial.create_trial(
                params={name: params[name] for name in fixed.distributions},
                distributions=fixed.distributions,
                values=candidate.values,
            )
        )
    study.add_trials(frozen)
    return study
