"""Rates of the reduced flow: derived in docs/reference/theory.md, published in the paper, fitted numerically."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import linregress

from gaptune.paper.theory.reduced import Setting, Trajectory, flow, log_minus_slope
from gaptune.paper.theory.scales import Scale

TOLERANCE = 0.01
"""Relative difference between a fitted and a derived slope up to which they agree."""
SCALES = (Scale("exp"), Scale("exp_scaled", 2.0), Scale("exp_scaled", 4.0), Scale("softplus"), Scale("fixed"))
_PUBLISHED = {"exp": "γ = Ω(1/log² t)", "softplus": "γ = Θ(1/(t log t))"}


@dataclass(frozen=True)
class Rate:
    """A slope of the reduced flow.

    Attributes:
        scale: Parameterization.
        what: Which quantity against which.
        derived: The slope that follows from the flow as t grows.
        fitted: Least-squares slope over the last decades.
        error: Its standard error.
        published: The rate that the paper states; empty where it states none.
    """

    scale: str
    what: str
    derived: float
    fitted: float
    error: float
    published: str = ""

    @property
    def agrees(self) -> bool:
        """Whether fitted and derived slope differ by no more than ``TOLERANCE``."""
        return abs(self.fitted / self.derived - 1.0) <= TOLERANCE


def fit_rates(setting: Setting | None = None, *, decades: float = 300.0, over: float = 100.0) -> list[Rate]:
    """Integrates the flow for each parameterization and fits its rates over the last decades of time.

    So many decades, because β against log t nears its slope only like 1/log t: at t = 10^14 it is still 6% off.

    Args:
        setting: Start and data.
        decades: Last time, as a power of ten; at most 300, where floats end.
        over: How many of them are fitted.
    """
    setting = setting or Setting()
    rates = []
    for scale in SCALES:
        last = min(decades, 60.0) if scale.kind == "fixed" else decades  # log γ ~ -t; a fit takes its 4th power
        solved = flow(scale, setting, decades=last)
        tail = solved.t >= 10.0 ** (last - min(over, last / 3))
        what, derived, across = _gap_law(solved)
        rates.append(_rate(scale, what, derived, across[tail], solved.log_gamma[tail], _PUBLISHED.get(scale.kind, "")))
        if scale.kind != "fixed":
            log_t = np.log(solved.t)
            rates.append(_rate(scale, "β against log t", 1.0 / setting.margin, log_t[tail], solved.beta[tail], ""))
    return rates


def _gap_law(solved: Trajectory) -> tuple[str, float, npt.NDArray[np.float64]]:
    """Against what log γ becomes a line, and its slope: from d(log γ)/dβ = -2β/β'² and, for a fixed β, from dγ/dt."""
    if solved.scale.kind == "fixed":
        beta = solved.setting.beta
        return "log γ against t", -2.0 * beta * float(np.exp(log_minus_slope(beta, solved.setting))), solved.t
    if solved.scale.kind == "softplus":
        return "log γ against β²", -1.0, solved.beta**2
    return "log γ against log β", -2.0 * solved.scale.s**2, np.log(solved.beta)


def _rate(
    scale: Scale,
    what: str,
    derived: float,
    across: npt.NDArray[np.float64],
    up: npt.NDArray[np.float64],
    published: str,
) -> Rate:
    fit = linregress(across, up)
    return Rate(scale.name, what, derived, float(fit.slope), float(fit.stderr), published)
