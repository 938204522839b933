"""What the paper claims (Yaras et al. 2024), tested on a sweep's own trials, seed by seed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.stats import page_trend_test, spearmanr, ttest_1samp

from gaptune.errors import UserError
from gaptune.ledger import SweepRecord
from gaptune.results.front import Candidate, candidates

LEVEL = 0.05
"""Level of the one-sided tests."""
COLLAPSE = 0.5
"""Share of the baseline's retrieval below which a method is said to have collapsed."""
_ENOUGH = 4  # sets of knobs that a rank correlation needs

Verdict = Literal["holds", "not shown", "does not hold", "not run"]
Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Claim:
    """One of the paper's claims, as this sweep shows it.

    Attributes:
        text: What is claimed.
        verdict: ``holds``: the mean is on the claimed side and a one-sided paired test over the seeds rejects the
            opposite at ``LEVEL``. ``not shown``: on the claimed side, but the seeds do not tell it from chance.
            ``does not hold``: on the other side. ``not run``: trials that it needs are missing.
        evidence: The figures.
    """

    text: str
    verdict: Verdict
    evidence: str


@dataclass(frozen=True)
class Columns:
    """The metrics of the paper's columns, as a sweep measured them; None for what it did not measure."""

    gap: str
    uniformity: str
    zero_shot: str | None
    probe: str | None
    image_retrieval: str
    text_retrieval: str


def columns(record: SweepRecord) -> Columns:
    """Which metrics stand for the paper's columns.

    Retrieval is recall@k at the k of the sweep's own retrieval objective (1 without one); zero-shot and linear probe
    are those of the training data's labels, else of the sweep's evaluations.
    """
    recalls = [o["metric"] for o in record.objectives if o["metric"].startswith("retrieval/")]
    k = recalls[0].rpartition("_r")[2] if recalls else "1"
    measured = {metric for trial in record.trials.values() for metric in trial.last}

    def labelled(own: str, suffix: str) -> str | None:
        return own if own in measured else min((m for m in measured if m.endswith(suffix)), default=None)

    return Columns(
        gap="geometry/gap",
        uniformity="uniformity/w2",
        zero_shot=labelled("zeroshot/accuracy", "/zeroshot_top1"),
        probe=labelled("probe/accuracy", "/probe_top1"),
        image_retrieval=f"retrieval/t2i_r{k}",
        text_retrieval=f"retrieval/i2t_r{k}",
    )


def named_rows(record: SweepRecord) -> dict[str, Candidate]:
    """The completed sets of knobs of a sweep over the paper's methods, by name: ``TS S3``, ``FLT 0.04``, ``HS 0.001``.

    Raises:
        UserError: The sweep has no knob ``method``: it is not one of the paper's methods.
    """
    if "method" not in record.header["varied"]:
        raise UserError(f"{record.name!r} does not vary `method`; the paper's tables need search_spaces/paper.yaml")
    return {_name(candidate): candidate for candidate in candidates(record)}


def claims(record: SweepRecord) -> list[Claim]:
    """The paper's claims with their verdicts.

    Tests are paired over the seeds: a one-sided t-test of the differences; for an order of more than two, Page's trend
    test. They say nothing of other data or models, and there is no correction for their number.

    Args:
        record: A sweep of ``search_spaces/paper.yaml``, finished or not.

    Raises:
        UserError: It is a sweep over something else.
    """
    judge = _Judge(named_rows(record), columns(record))
    return [
        *judge.smaller_gaps(),
        *judge.better_retrieval(),
        judge.larger_tau_smaller_gap(),
        judge.gap_falls_with_tau(),
        judge.inverted_u(),
        *judge.follows_uniformity(),
        *judge.collapses(),
    ]


class _Judge:
    """The values by name and seed, and a method per claim."""

    def __init__(self, rows: dict[str, Candidate], metrics: Columns) -> None:
        self._rows = rows
        self._metrics = metrics

    def smaller_gaps(self) -> Iterable[Claim]:
        for name in self._mitigations():
            text = f"the gap of {name} is below the learnt baseline's"
            yield self._paired(text, name, "Baseline", self._gap, larger=False)

    def better_retrieval(self) -> Iterable[Claim]:
        for name in self._mitigations():
            text = f"retrieval of {name} is above the learnt baseline's"
            yield self._paired(text, name, "Baseline", self._retrieval, larger=True)

    def larger_tau_smaller_gap(self) -> Claim:
        text = "a fixed τ above the baseline's final τ has the smaller gap"
        if "Baseline" not in self._rows:
            return Claim(text, "not run", "no completed Baseline")
        final = self._rows["Baseline"].mean("temperature/tau")
        above = [tau for tau in self._taus() if tau > final]
        found = [self._paired(text, _fixed(tau), "Baseline", self._gap, larger=False) for tau in above]
        if not found:
            return Claim(text, "not run", f"no fixed τ above {final:.3g}")
        order: tuple[Verdict, ...] = ("does not hold", "not shown", "holds")
        worst = min((claim.verdict for claim in found), key=order.index)
        parts = [f"τ {tau:g}: {claim.evidence}" for tau, claim in zip(above, found, strict=True)]
        return Claim(text, worst, f"baseline ends at τ {final:.3g}; " + "; ".join(parts))

    def gap_falls_with_tau(self) -> Claim:
        text = "the gap falls as a fixed τ rises"
        taus = self._taus()
        if len(taus) < 3:
            return Claim(text, "not run", "fewer than three fixed τ")
        gaps = np.array([self._gap(_fixed(tau)) for tau in taus])  # τ × seeds
        means = gaps.mean(axis=1)
        rises = [f"{taus[i]:g} → {taus[i + 1]:g}" for i in range(len(taus) - 1) if means[i + 1] >= means[i]]
        evidence = "gap " + ", ".join(f"{mean:.3f}" for mean in means) + f" at τ {', '.join(f'{t:g}' for t in taus)}"
        if rises:
            return Claim(text, "does not hold", f"{evidence}; not from {', '.join(rises)}")
        if gaps.shape[1] < 2:
            return Claim(text, "not shown", f"{evidence}; one seed")
        p = float(page_trend_test(-gaps.T).pvalue)
        return Claim(text, "holds" if p < LEVEL else "not shown", f"{evidence}; Page's trend test p {_p(p)}")

    def inverted_u(self) -> Claim:
        text = "retrieval is an inverted U in a fixed τ"
        taus = self._taus()
        if len(taus) < 3:
            return Claim(text, "not run", "fewer than three fixed τ")
        scores = {tau: self._retrieval(_fixed(tau)) for tau in taus}
        top = max(taus, key=lambda tau: scores[tau].mean())
        evidence = ", ".join(f"{scores[tau].mean():.3f}" for tau in taus) + f" at τ {', '.join(f'{t:g}' for t in taus)}"
        if top in (taus[0], taus[-1]):
            return Claim(text, "does not hold", f"{evidence}; the best is at an end")
        ps = [_test(scores[top] - scores[end]) for end in (taus[0], taus[-1])]
        verdict: Verdict = "holds" if max(ps) < LEVEL else "not shown"
        return Claim(text, verdict, f"{evidence}; best at {top:g}, above the ends with p {_p(ps[0])} and {_p(ps[1])}")

    def follows_uniformity(self) -> Iterable[Claim]:
        """Rank correlations over the sets of knobs, seed by seed."""
        for what, metric in (("zero-shot", self._metrics.zero_shot), ("linear probe", self._metrics.probe)):
            text = f"{what} follows uniformity rather than the gap"
            if metric is None or len(self._rows) < _ENOUGH:
                yield Claim(text, "not run", "not measured" if metric is None else "too few sets of knobs")
                continue
            scores, uniform, gaps = (
                np.array([self._values(name, column) for name in self._rows])
                for column in (metric, self._metrics.uniformity, self._metrics.gap)
            )
            with_uniformity = np.array([spearmanr(s, u).statistic for s, u in zip(scores.T, uniform.T, strict=True)])
            with_gap = np.array([spearmanr(s, -g).statistic for s, g in zip(scores.T, gaps.T, strict=True)])
            evidence = f"ρ {with_uniformity.mean():.2f} with -W2, {with_gap.mean():.2f} with a small gap"
            yield _claim(text, with_uniformity - with_gap, evidence)

    def collapses(self) -> Iterable[Claim]:
        for kind in ("HS", "SS"):
            text = f"{kind} in every step (p = 1) collapses: retrieval below half of the baseline's"
            name = f"{kind} 1"
            if name not in self._rows or "Baseline" not in self._rows:
                yield Claim(text, "not run", f"no completed {name if name not in self._rows else 'Baseline'}")
                continue
            mine, base = self._retrieval(name), self._retrieval("Baseline")
            yield _claim(text, COLLAPSE * base - mine, f"{mine.mean():.3f} against {base.mean():.3f}")

    def _paired(self, text: str, name: str, other: str, values: Callable[[str], Values], *, larger: bool) -> Claim:
        missing = [one for one in (name, other) if one not in self._rows]
        if missing:
            return Claim(text, "not run", f"no completed {missing[0]}")
        mine, others = values(name), values(other)
        difference = mine - others if larger else others - mine
        return _claim(text, difference, f"{mine.mean():.3f} against {others.mean():.3f}")

    def _mitigations(self) -> list[str]:
        return [name for name in self._rows if name != "Baseline" and name not in ("HS 1", "SS 1")]

    def _taus(self) -> list[float]:
        return sorted(float(name.removeprefix("FLT ")) for name in self._rows if name.startswith("FLT "))

    def _gap(self, name: str) -> Values:
        return self._values(name, self._metrics.gap)

    def _retrieval(self, name: str) -> Values:
        image, text = self._metrics.image_retrieval, self._metrics.text_retrieval
        return (self._values(name, image) + self._values(name, text)) / 2

    def _values(self, name: str, metric: str) -> Values:
        return np.array([trial.last.get(metric, math.nan) for trial in self._rows[name].trials])


def _claim(text: str, differences: Values, evidence: str) -> Claim:
    """A verdict on differences, one a seed, that are claimed to be above 0."""
    if not differences.mean() > 0:
        return Claim(text, "does not hold", evidence)
    if len(differences) < 2:
        return Claim(text, "not shown", f"{evidence}; one seed")
    p = _test(differences)
    return Claim(text, "holds" if p < LEVEL else "not shown", f"{evidence}; p {_p(p)}")


def _test(differences: Values) -> float:
    """One-sided p of a paired t-test; 1 for a single seed, 0 for equal differences above 0, which t cannot weigh."""
    if len(differences) < 2:
        return 1.0
    if np.ptp(differences) == 0:
        return 0.0 if differences[0] > 0 else 1.0
    return float(ttest_1samp(differences, 0.0, alternative="greater").pvalue)


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"= {value:.3f}"


def _fixed(tau: float) -> str:
    return f"FLT {tau:g}"


def _name(candidate: Candidate) -> str:
    config, method = candidate.trial.config, str(candidate.trial.knobs["method"])
    number = {"FLT": "temperature.tau_start", "HS": "swap.probability", "SS": "swap.probability"}.get(method)
    return f"{method} {config[number]:g}" if number else method
