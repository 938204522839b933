"""β as a function of ν, and what the reduced flow needs of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

Kind = Literal["exp", "exp_scaled", "softplus", "fixed"]


@dataclass(frozen=True)
class Scale:
    """A parameterization of the logit scale β.

    Attributes:
        kind: ``exp`` β = e^ν, ``exp_scaled`` β = e^(ν/s), ``softplus`` β = log(1 + e^ν), or ``fixed``: β is not
            learned.
        s: The s of ``exp_scaled``.
    """

    kind: Kind
    s: float = 1.0

    @property
    def name(self) -> str:
        """As tables show it."""
        return f"exp/s, s = {self.s:g}" if self.kind == "exp_scaled" else self.kind

    def slope(self, beta: float) -> float:
        """dβ/dν at a given β: β, β/s, 1 - e^(-β), or 0."""
        if self.kind == "fixed":
            return 0.0
        if self.kind == "softplus":
            return float(-np.expm1(-beta))
        return beta / self.s
