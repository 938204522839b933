"""Gradient flow of free features on the sphere with a learned ν: the paper's synthetic experiment (its Figure 2)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.integrate import solve_ivp
from scipy.special import logsumexp

from gaptune.paper.theory.scales import Scale

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class FreeFlow:
    """A run of the free-feature flow.

    Attributes:
        t: Times, shape (m,).
        gap: Δ at each, shape (m,).
        tau: τ at each, shape (m,).
        mismatched: Fraction of features whose nearest one of the other modality is not their match, shape (m,).
        x: Image features at each time, shape (m, n, d).
        y: Text features at each time, shape (m, n, d).
    """

    t: Values
    gap: Values
    tau: Values
    mismatched: Values
    x: Values
    y: Values


def free_flow(
    scale: Scale,
    x: Values,
    y: Values,
    *,
    tau: float = 0.07,
    decades: float = 5.0,
    points: int = 200,
) -> FreeFlow:
    """Moves features and ν down the gradient of CLIP's loss.

    Each feature moves on the sphere, by the part of its gradient that is tangent to it; the loss is the mean over pairs
    and both directions.

    Args:
        scale: Parameterization of β.
        x: Image features at the start, shape (n, d), L2-normalized; row i matches row i of ``y``.
        y: Text features at the start, likewise.
        tau: τ at the start.
        decades: The last time, as a power of ten.
        points: Times kept, evenly in log t.

    Raises:
        RuntimeError: The solver gave up.
    """
    n, d = x.shape
    clocks = np.linspace(np.log(1.01), decades * np.log(10.0), points)

    def rates(clock: float, state: Values) -> Values:
        beta, features = state[0], _on_sphere(state[1:].reshape(2, n, d))
        d_beta, d_x, d_y = velocities(scale, float(beta), features[0], features[1])
        change = np.concatenate([[d_beta], d_x.ravel(), d_y.ravel()])
        return np.asarray(change * np.exp(clock))

    start = np.concatenate([[1.0 / tau], x.ravel(), y.ravel()])
    solved = solve_ivp(rates, (0.0, clocks[-1]), start, "LSODA", t_eval=clocks, rtol=1e-6, atol=1e-9)
    if not solved.success:
        raise RuntimeError(f"the flow of free features: {solved.message}")
    features = _on_sphere(solved.y[1:].T.reshape(-1, 2, n, d))
    xs, ys = features[:, 0], features[:, 1]
    gaps = np.linalg.norm(xs.mean(axis=1) - ys.mean(axis=1), axis=1)
    wrong = np.array([_mismatched(a, b) for a, b in zip(xs, ys, strict=True)])
    return FreeFlow(np.expm1(clocks), gaps, 1.0 / solved.y[0], wrong, xs, ys)


def velocities(scale: Scale, beta: float, x: Values, y: Values) -> tuple[float, Values, Values]:
    """dβ/dt, dx/dt and dy/dt of the flow at a point; shapes as ``x`` and ``y``."""
    n = len(x)
    logits = beta * x @ y.T
    rows = np.exp(logits - logsumexp(logits, axis=1, keepdims=True))
    columns = np.exp(logits - logsumexp(logits, axis=0, keepdims=True))
    pull = ((rows + columns) / 2 - np.eye(n)) / n  # the loss's derivative by each logit
    d_beta = -(scale.slope(beta) ** 2) * float((pull * (x @ y.T)).sum())
    return d_beta, _tangent(x, -beta * pull @ y), _tangent(y, -beta * pull.T @ x)


def random_features(pairs: int, dimension: int, seed: int, *, spread: float = np.inf) -> Values:
    """Features on the sphere, shape (pairs, dimension): uniform, or around a random direction (a cone).

    Args:
        pairs: n.
        dimension: d.
        seed: Decides them.
        spread: Length of the Gaussian noise around the direction, over all coordinates together; infinite for uniform.
    """
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(pairs, dimension)) / np.sqrt(dimension)
    if np.isinf(spread):
        return _on_sphere(noise)
    center = rng.normal(size=dimension)
    return _on_sphere(center / np.linalg.norm(center) + spread * noise)


def _tangent(at: Values, direction: Values) -> Values:
    return np.asarray(direction - (direction * at).sum(axis=-1, keepdims=True) * at)


def _on_sphere(features: Values) -> Values:
    return np.asarray(features / np.linalg.norm(features, axis=-1, keepdims=True))


def _mismatched(x: Values, y: Values) -> float:
    cosine = x @ y.T
    own = np.arange(len(x))
    return float(((cosine.argmax(axis=1) != own).mean() + (cosine.argmax(axis=0) != own).mean()) / 2)
