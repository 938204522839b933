"""The importance of each parameter for each objective."""

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
from gaptune.ledger.candidate import Candidate
from gaptune.results.front import candidates
from gaptune.results.unknown import Unknown, Why, too_few, varies
from gaptune.space.parse import parse_space

Evaluator = Literal["ped_anova", "fanova"]
ENOUGH = 8
"""Fewest candidates from which importances are computed."""
_MOST_FANOVA = 1000


@dataclass(frozen=True)
class Importance:
    """The fraction of an objective's variation that a parameter accounts for.

    Attributes:
        objective: Metric.
        parameter: Dotted path.
        fraction: From 0 to 1; the fractions of an objective add up to 1.
        trials: Candidates in which the parameter has a value, of those that were looked at.
    """

    objective: str
    parameter: str
    fraction: float
    trials: int


class Importances(list[Importance]):
    """For each objective, the parameters from the most important on.

    Attributes:
        unknown: By objective without importances, the reason.
    """

    def __init__(self, fractions: Iterable[Importance], unknown: Mapping[str, Unknown]) -> None:
        super().__init__(fractions)
        self.unknown = dict(unknown)


def importances(record: SweepRecord, evaluator: Evaluator = "ped_anova", method: str | None = None) -> Importances:
    """Importance of the parameters that varied, by Optuna, over the completed candidates.

    Args:
        record: The sweep.
        evaluator: ``ped_anova`` (Watanabe et al. 2023, with its treatment of conditional parameters: which parameters
            tell the best tenth from the rest) or ``fanova`` (Hutter et al. 2014: which parameters make candidates
            differ; only parameters that all of them have, and at most 1,000 candidates, drawn at random: its cost grows
            fast).
        method: Only candidates of this method family (a trial's ``method``); None for all.

    Returns:
        The fractions; an objective has none with fewer than 8 candidates, without a parameter that varied, or with the
        same value for all.
    """
    chosen, metrics = _chosen(record, evaluator, method), record.objectives.metrics
    if len(chosen) < ENOUGH:
        return Importances([], dict.fromkeys(metrics, _too_few(record, chosen, method)))
    study = _study(record, chosen)
    tried = _tried(study)
    if not any(len(values) > 1 for values in tried.values()):
        why = Unknown(Why.NOTHING_VARIED, f"no parameter varies among the {len(chosen)} candidates")
        return Importances([], dict.fromkeys(metrics, why))
    found: list[Importance] = []
    unknown: dict[str, Unknown] = {}
    for index, objective in enumerate(record.objectives):
        if not varies([one.values[index] for one in chosen]):
            text = f"{objective.metric} is the same for all {len(chosen)} candidates"
            unknown[objective.metric] = Unknown(Why.CONSTANT, text)
            continue
        fractions = _fractions(study, evaluator, index, objective.sign)
        varied = {parameter: fraction for parameter, fraction in fractions.items() if len(tried[parameter]) > 1}
        total = sum(varied.values())
        if not total > 0:
            unknown[objective.metric] = _no_fraction(bool(varied), evaluator)
            continue
        found += [
            Importance(objective.metric, parameter, fraction / total, sum(tried[parameter].values()))
            for parameter, fraction in sorted(varied.items(), key=lambda pair: (-pair[1], pair[0]))
        ]
    return Importances(found, unknown)


def _chosen(record: SweepRecord, evaluator: Evaluator, method: str | None) -> list[Candidate]:
    """The candidates with values of all objectives; for fANOVA no more than it can take."""
    chosen = [one for one in candidates(record) if method is None or one.trial.method == method]
    chosen = [one for one in chosen if all(map(math.isfinite, one.values))]
    if evaluator == "fanova" and len(chosen) > _MOST_FANOVA:
        rows = np.random.default_rng(0).choice(len(chosen), _MOST_FANOVA, replace=False)
        chosen = [chosen[row] for row in sorted(rows)]
    return chosen


def _too_few(record: SweepRecord, chosen: list[Candidate], method: str | None) -> Unknown:
    complete = record.count(State.COMPLETE)
    if len(chosen) == 1 and method is None and complete >= ENOUGH:
        return Unknown(
            Why.NOTHING_VARIED, f"no parameter varies: all {complete} complete trials have the same parameters"
        )
    return too_few(len(chosen), ENOUGH, "complete" if method is None else f"complete with method {method}")


def _tried(study: optuna.Study) -> dict[str, Counter[Any]]:
    """How often each value of each parameter was tried: PED-ANOVA gives a fraction to a parameter with one value."""
    tried: dict[str, Counter[Any]] = {}
    for trial in study.get_trials(deepcopy=False):
        for parameter, value in trial.params.items():
            tried.setdefault(parameter, Counter())[value] += 1
    return tried


def _fractions(study: optuna.Study, evaluator: Evaluator, index: int, sign: float) -> dict[str, float]:
    """Optuna's importances for one objective; empty if no parameter is in all candidates."""

    def target(trial: FrozenTrial) -> float:
        return -sign * float(trial.values[index])  # PED-ANOVA takes less for better; fANOVA does not mind

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        judge = (
            optuna.importance.PedAnovaImportanceEvaluator()
            if evaluator == "ped_anova"
            else optuna.importance.FanovaImportanceEvaluator(seed=0)
        )
        try:
            return optuna.importance.get_param_importances(study, evaluator=judge, target=target)
        except (ValueError, RuntimeError):
            return {}


def _no_fraction(judged: bool, evaluator: Evaluator) -> Unknown:
    if judged:
        return Unknown(Why.NO_DIFFERENCE, "no parameter tells better candidates from worse ones")
    return Unknown(
        Why.NOTHING_VARIED,
        "no parameter that all candidates have varies" if evaluator == "fanova" else "no parameter varies",
    )


def families(record: SweepRecord) -> list[str]:
    """The method families with enough completed candidates for ``importances(record, method=…)``, by name."""
    counts = Counter(one.trial.method for one in candidates(record))
    return sorted(method for method, count in counts.items() if count >= ENOUGH)


def _study(record: SweepRecord, chosen: list[Candidate]) -> optuna.Study:
    """The candidates as an Optuna study in memory; each with the parameters that its conditions leave it."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space = parse_space(record.header.space)
    study = optuna.create_study(directions=record.objectives.directions)
    frozen = []
    for candidate in chosen:
        params = space.varied_params(candidate.trial.params)
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
