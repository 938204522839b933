"""The reduced flow: parallel modalities, of which only β and the offset γ are left (see docs/reference/theory.md).

With features (√(1-γ²) u_i, γ) and (√(1-γ²) u_j, -γ) the offset cancels in the softmax, and the loss is a function f of
b = β(1-γ²) alone. Gradient flow in ν and γ is then

    dγ/dt = 2 β γ f'(b),    dν/dt = -β'(ν) (1-γ²) f'(b),    f' < 0,

whose ratio is Lemma 3.1 of Yaras et al. 2024. The directions u_i are held: α is the margin between a match and every
other pair, so f(b) = log(1 + (n-1) e^(-αb)).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.integrate import solve_ivp

from gaptune.paper.theory.scales import Scale

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Setting:
    """Where the flow starts, and on what data.

    Attributes:
        pairs: n, pairs in the batch.
        margin: α, the cosine of a match minus that of every other pair.
        beta: β at the start.
        gamma: γ at the start, in (0, 1).
    """

    pairs: int = 64
    margin: float = 1.0
    beta: float = 1 / 0.07
    gamma: float = 0.5


@dataclass(frozen=True)
class Trajectory:
    """A solution of the reduced flow at rising times.

    Attributes:
        scale: The parameterization.
        setting: Start and data.
        t: Times, from 1 on.
        beta: β at each.
        log_gamma: log γ at each: γ itself falls below the smallest float.
        lemma: Largest relative deviation from Lemma 3.1 at each time, from the right-hand sides.
    """

    scale: Scale
    setting: Setting
    t: Values
    beta: Values
    log_gamma: Values
    lemma: Values


def log_minus_slope(b: float, setting: Setting) -> float:
    """log(-f'(b)) = log α + log((n-1) e^(-αb) / (1 + (n-1) e^(-αb))), without under- or overflow."""
    logit = math.log(setting.pairs - 1) - setting.margin * b
    return math.log(setting.margin) - float(np.logaddexp(0.0, -logit))


def flow(scale: Scale, setting: Setting | None = None, *, decades: float = 14.0, points: int = 600) -> Trajectory:
    """Integrates the reduced flow over many decades of time.

    The unknowns are β and log γ and the clock is log(1 + t), so that neither a vanishing γ nor steps that grow a
    thousandfold a decade ask more of the solver (LSODA, relative tolerance 1e-10).

    Args:
        scale: Parameterization of β.
        setting: Start and data.
        decades: The last time, as a power of ten.
        points: Times kept, evenly in log t.

    Raises:
        RuntimeError: The solver gave up.
    """
    setting = setting or Setting()

    def rates(clock: float, state: Values) -> list[float]:
        d_beta, d_log_gamma = right_hand_side(scale, setting, float(state[0]), float(state[1]))
        stretch = math.exp(clock)  # dt / d log(1+t)
        return [d_beta * stretch, d_log_gamma * stretch]

    clocks = np.linspace(math.log(2.0), decades * math.log(10.0), points)
    start = [setting.beta, math.log(setting.gamma)]
    solved = solve_ivp(rates, (0.0, clocks[-1]), start, "LSODA", t_eval=clocks, rtol=1e-10, atol=1e-12)
    if not solved.success:
        raise RuntimeError(f"the reduced flow of {scale.name}: {solved.message}")
    beta, log_gamma = solved.y
    lemma = [lemma_deviation(scale, setting, b, g) for b, g in zip(beta, log_gamma, strict=True)]
    return Trajectory(scale, setting, np.expm1(clocks), beta, log_gamma, np.array(lemma))


def right_hand_side(scale: Scale, setting: Setting, beta: float, log_gamma: float) -> tuple[float, float]:
    """dβ/dt and d(log γ)/dt at a point of the flow."""
    rest = -math.expm1(2.0 * log_gamma)  # 1 - γ²
    push = math.exp(log_minus_slope(beta * rest, setting))  # -f'(b)
    return scale.slope(beta) ** 2 * rest * push, -2.0 * beta * push


def lemma_deviation(scale: Scale, setting: Setting, beta: float, log_gamma: float) -> float:
    """How far (dγ/dt)/(dβ/dt) is from Lemma 3.1's -2βγ / (β'² (1-γ²)), relatively; 0 where β is fixed.

    Both sides are divided by γ, which is below the smallest float for most of a softplus trajectory.
    """
    d_beta, d_log_gamma = right_hand_side(scale, setting, beta, log_gamma)
    if d_beta == 0.0:
        return 0.0
    gamma = math.exp(log_gamma)
    stated = -2.0 * beta / (scale.slope(beta) ** 2 * (1.0 - gamma) * (1.0 + gamma))
    return abs(d_log_gamma / d_beta / stated - 1.0)
