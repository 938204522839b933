"""What the paper claims (Yaras et al. 2024), tested on a sweep's own trials, seed by seed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from gaptune.errors import UserError
from gaptune.ledger import SweepRecord, TrialRecord
from gaptune.ledger.candidate import Candidate
from gaptune.paper.claim_tests import FEWEST, LEVEL, Values, above, falls, follows_more, holm, peak, rises
from gaptune.paper.photographs import Photographs, Retrieval
from gaptune.results.front import candidates

COLLAPSE = 0.5
"""Fraction of the baseline's retrieval below which a method counts as collapsed."""
_ENOUGH = 5  # sets of parameters that a rank correlation needs

Verdict = Literal["holds", "not shown", "does not hold", "not run"]


@dataclass(frozen=True)
class Claim:
    """One of the paper's claims, as this sweep shows it.

    Attributes:
        text: What is claimed.
        verdict: ``holds``: a one-sided test over the paired seeds, corrected for the number of tests of its family,
            rejects the opposite at ``LEVEL``. ``not shown``: it may be chance. ``does not hold``:
            the mean is on the other side. ``not run``: trials or values that it needs are missing.
        evidence: The figures, or why it was not run.
        p: p-value of the test; None without one.
        corrected: p by Holm's correction over the family.
        family: The claims that are corrected together.
    """

    text: str
    verdict: Verdict
    evidence: str
    p: float | None = None
    corrected: float | None = None
    family: str = ""


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
    recalls = [metric for metric in record.objectives.metrics if metric.startswith("retrieval/")]
    k = recalls[0].rpartition("_r")[2] if recalls else "1"
    measured = {metric for trial in record.trials.values() for metric in trial.last}

    def labeled(own: str, suffix: str) -> str | None:
        return own if own in measured else min((m for m in measured if m.endswith(suffix)), default=None)

    return Columns(
        gap="geometry/gap",
        uniformity="uniformity/w2",
        zero_shot=labeled("zeroshot/top1", "/zeroshot/top1"),
        probe=labeled("probe/top1", "/probe/top1"),
        image_retrieval=f"retrieval/t2i_r{k}",
        text_retrieval=f"retrieval/i2t_r{k}",
    )


def named_rows(record: SweepRecord) -> dict[str, Candidate]:
    """The completed candidates of a sweep over the paper's methods, by name: ``TS S3``, ``FLT 0.04``, ``HS 0.001``.

    Raises:
        UserError: The sweep has no parameter ``method``: it is not one of the paper's methods.
    """
    if "method" not in record.header.varied:
        raise UserError(f"{record.name!r} does not vary `method`; the paper's tables need search_spaces/paper.yaml")
    return {_name(candidate.trial): candidate for candidate in candidates(record)}


def claims(record: SweepRecord, folder: Path | None = None) -> list[Claim]:
    """The paper's claims with their verdicts.

    Tests are paired over the seeds (``gaptune.paper.claim_tests``), those of retrieval over the photographs too
    (``gaptune.paper.photographs``), with Holm's correction over the claims of a family. They say nothing of other data
    or models.

    Args:
        record: A sweep of ``search_spaces/paper.yaml``, finished or not.
        folder: Its folder. Without it, or without the outcomes in it, retrieval is tested over the seeds only.

    Raises:
        UserError: It is a sweep over something else.
    """
    rows = named_rows(record)
    tried = list(dict.fromkeys(_name(trials[0]) for trials in record.candidates().values()))
    judge = _Judge(rows, tried, columns(record), record.seeds, folder)
    families: dict[str, Iterable[Claim]] = {
        "smaller gap": judge.smaller_gaps(),
        "better retrieval": judge.better_retrieval(),
        "fixed temperature": (judge.larger_tau_smaller_gap(), judge.gap_falls_with_tau(), judge.inverted_u()),
        "uniformity": judge.follows_uniformity(),
        "collapse": judge.collapses(),
    }
    return [claim for family, found in families.items() for claim in _decided(family, list(found))]


def _decided(family: str, found: list[Claim]) -> list[Claim]:
    """A family's claims with corrected p; those that are shown hold."""
    corrected = iter(holm([claim.p for claim in found if claim.p is not None]))
    decided = []
    for claim in found:
        p = None if claim.p is None else next(corrected)
        shown = claim.verdict == "not shown" and p is not None and p < LEVEL
        decided.append(replace(claim, family=family, corrected=p, verdict="holds" if shown else claim.verdict))
    return decided


class _Judge:
    """The values by name and seed, and a method per claim; none has the verdict ``holds`` yet."""

    def __init__(
        self, rows: dict[str, Candidate], tried: list[str], metrics: Columns, seeds: int, folder: Path | None
    ) -> None:
        self._rows = rows
        self._tried = tried
        self._metrics = metrics
        self._seeds = seeds
        self._photographs = Photographs(folder, self._recalls())
        self._known: dict[str, Retrieval] = {}

    def smaller_gaps(self) -> Iterable[Claim]:
        for name in self._mitigations():
            text = f"the gap of {name} is below the learned baseline's"
            if why := self._not_tried(name, (self._metrics.gap,)):
                yield Claim(text, "not run", why)
                continue
            mine, base = self._gap(name), self._gap("Baseline")
            evidence = f"{mine.mean():.3f} against {base.mean():.3f}"
            verdict: Verdict = "does not hold" if mine.mean() > base.mean() else "not shown"
            yield self._claim(text, verdict, evidence, lambda mine=mine, base=base: above(base, mine))  # type: ignore[misc]

    def better_retrieval(self) -> Iterable[Claim]:
        for name in self._mitigations():
            text = f"retrieval of {name} is above the learned baseline's"
            if why := self._not_tried(name, self._recalls()):
                yield Claim(text, "not run", why)
                continue
            yield self._better(text, self._retrieval(name), self._retrieval("Baseline"))

    def larger_tau_smaller_gap(self) -> Claim:
        text = "a fixed τ above the baseline's final τ has the smaller gap"
        if why := self._lacking(["Baseline"], ("temperature/tau", self._metrics.gap)):
            return Claim(text, "not run", why)
        final = self._rows["Baseline"].mean("temperature/tau")
        higher = [tau for tau in self._taus() if tau > final]
        if not higher:
            return Claim(text, "not run", f"no fixed τ above {final:.3g}")
        if why := self._lacking(map(_fixed, higher), (self._metrics.gap,)):
            return Claim(text, "not run", why)
        base, gaps = self._gap("Baseline"), [self._gap(_fixed(tau)) for tau in higher]
        parts = ", ".join(f"{gap.mean():.3f} at {tau:g}" for tau, gap in zip(higher, gaps, strict=True))
        evidence = f"baseline ends at τ {final:.3g} with {base.mean():.3f}; {parts}"
        verdict: Verdict = "does not hold" if max(gap.mean() for gap in gaps) > base.mean() else "not shown"
        return self._claim(text, verdict, evidence, lambda: max(above(base, gap) for gap in gaps))

    def gap_falls_with_tau(self) -> Claim:
        text = "the gap falls as a fixed τ rises"
        taus = self._taus()
        if why := self._lacking_taus(taus, (self._metrics.gap,)):
            return Claim(text, "not run", why)
        gaps = np.array([self._gap(_fixed(tau)) for tau in taus])  # τ × seeds
        evidence = "gap " + ", ".join(f"{mean:.3f}" for mean in gaps.mean(axis=1)) + f" at τ {_listed(taus)}"
        up = [f"{taus[row]:g} → {taus[row + 1]:g}" for row in rises(gaps)] if self._seeds >= FEWEST else []
        if up:
            return self._claim(text, "does not hold", f"{evidence}; it rises from {', '.join(up)}", lambda: falls(gaps))
        return self._claim(text, "not shown", evidence, lambda: falls(gaps))

    def inverted_u(self) -> Claim:
        text = "retrieval is an inverted U in a fixed τ"
        taus = self._taus()
        if why := self._lacking_taus(taus, self._recalls()):
            return Claim(text, "not run", why)
        found = [self._retrieval(_fixed(tau)) for tau in taus]
        values = np.array([one.values for one in found])
        means = values.mean(axis=1)

        def stands_out() -> tuple[int, float]:
            return peak(values, lambda row, end: found[row].above(found[end]))

        evidence = ", ".join(f"{mean:.3f}" for mean in means) + f" at τ {_listed(taus)}"
        if means[1:-1].max() <= max(means[0], means[-1]):
            return self._claim(text, "does not hold", f"{evidence}; best at an end", lambda: stands_out()[1])
        best = taus[stands_out()[0]]
        return self._claim(text, "not shown", f"{evidence}; peak at {best:g}", lambda: stands_out()[1])

    def follows_uniformity(self) -> Iterable[Claim]:
        """Rank correlations over the sets of parameters, by their means over the seeds."""
        for what, metric in (("zero-shot", self._metrics.zero_shot), ("linear probe", self._metrics.probe)):
            text = f"{what} follows uniformity rather than the gap"
            if metric is None or len(self._rows) < _ENOUGH:
                yield Claim(text, "not run", "not measured" if metric is None else "too few sets of parameters")
                continue
            wanted = (metric, self._metrics.uniformity, self._metrics.gap)
            if why := self._lacking(self._rows, wanted):
                yield Claim(text, "not run", why)
                continue
            values, uniform, gaps = (np.array([self._rows[n].mean(column) for n in self._rows]) for column in wanted)
            with_uniformity, with_gap, p = follows_more(values, uniform, -gaps)
            if math.isnan(p):
                yield Claim(text, "not run", "the values, the uniformity or the gap are the same for all")
                continue
            evidence = f"ρ {with_uniformity:.2f} with -W2, {with_gap:.2f} with a small gap"
            verdict: Verdict = "does not hold" if with_uniformity < with_gap else "not shown"
            yield self._claim(text, verdict, evidence, lambda p=p: p)  # type: ignore[misc]

    def collapses(self) -> Iterable[Claim]:
        for kind in ("HS", "SS"):
            text = f"{kind} in every step (p = 1) collapses: retrieval below half of the baseline's"
            if why := self._lacking([f"{kind} 1", "Baseline"], self._recalls()):
                yield Claim(text, "not run", why)
                continue
            yield self._better(text, self._retrieval("Baseline") * COLLAPSE, self._retrieval(f"{kind} 1"), worse=True)

    def _better(self, text: str, one: Retrieval, other: Retrieval, *, worse: bool = False) -> Claim:
        """That one retrieval is above another; ``worse`` if the claim is about the other one."""
        difference = one.values.mean() - other.values.mean()
        shown, against = (other, one) if worse else (one, other)
        evidence = f"{shown.values.mean():.3f} against {against.values.mean():.3f}"
        if (interval := shown.interval(against)) is not None:
            low, high = (100 * end for end in interval)
            evidence += f" ({100 * (shown.values - against.values).mean():+.1f} points, {low:+.1f} to {high:+.1f})"
        return self._claim(text, "does not hold" if difference < 0 else "not shown", evidence, lambda: one.above(other))

    def _claim(self, text: str, verdict: Verdict, evidence: str, test: Callable[[], float]) -> Claim:
        """With its p, where there are seeds for a test."""
        if self._seeds < FEWEST:
            seeds = "one seed" if self._seeds == 1 else f"{self._seeds} seeds"
            return Claim(text, verdict, f"{evidence}; {seeds}, a test needs {FEWEST}")
        return Claim(text, verdict, evidence, test())

    def _lacking(self, names: Iterable[str], metrics: Iterable[str]) -> str:
        """What is missing for a claim; empty if nothing."""
        wanted = list(metrics)
        for name in names:
            if name not in self._rows:
                return f"no completed {name}"
            for metric in wanted:
                for trial in self._rows[name].trials:
                    value = trial.last.get(metric)
                    if value is None or not math.isfinite(value):
                        what = "was not measured" if value is None else f"is {value}"
                        return f"{metric} of {name} {what} (trial {trial.number})"
        return ""

    def _lacking_taus(self, taus: list[float], metrics: tuple[str, ...]) -> str:
        if len(taus) < 3:
            return "fewer than three fixed τ"
        return self._lacking(map(_fixed, taus), metrics)

    def _not_tried(self, name: str, metrics: tuple[str, ...]) -> str:
        """Why a method cannot be compared with the baseline; empty if it can."""
        return self._lacking([name, "Baseline"], metrics) or self._never_swapped(name)

    def _never_swapped(self, name: str) -> str:
        """Why a swap was not tried: without one in its steps a training is the baseline's."""
        if not name.startswith(("HS", "SS")):
            return ""
        swaps = [swapped_steps(trial) for trial in self._rows[name].trials]
        if all(swaps):
            return ""
        return f"steps with a swap, seed by seed: {', '.join(map(str, swaps))}; without one it is the baseline"

    def _mitigations(self) -> list[str]:
        return [name for name in self._tried if name not in ("Baseline", "HS 1", "SS 1")]

    def _taus(self) -> list[float]:
        return sorted(float(name.removeprefix("FLT ")) for name in self._tried if name.startswith("FLT "))

    def _recalls(self) -> tuple[str, ...]:
        return self._metrics.image_retrieval, self._metrics.text_retrieval

    def _gap(self, name: str) -> Values:
        return self._values(name, self._metrics.gap)

    def _retrieval(self, name: str) -> Retrieval:
        if name not in self._known:
            self._known[name] = self._photographs.retrieval(self._rows[name].trials)
        return self._known[name]

    def _values(self, name: str, metric: str) -> Values:
        return np.array([trial.last[metric] for trial in self._rows[name].trials])


def swapped_steps(trial: TrialRecord) -> int:
    """In how many of its steps a training has swapped features."""
    swaps, before = 0.0, 0
    for report in trial.reports:
        swaps += (report.step - before) * report.metrics.get("train/swapped_fraction", 0.0)
        before = report.step
    return round(swaps)


def _listed(taus: list[float]) -> str:
    return ", ".join(f"{tau:g}" for tau in taus)


def _fixed(tau: float) -> str:
    return f"FLT {tau:g}"


def _name(trial: TrialRecord) -> str:
    config, method = trial.config, str(trial.params["method"])
    number = {"FLT": "temperature.tau_start", "HS": "swap.probability", "SS": "swap.probability"}.get(method)
    return f"{method} {config[number]:g}" if number else method
