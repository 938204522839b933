"""The methods of the paper as presets of parameters, and the method name of a configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gaptune.config import TrialConfig
from gaptune.errors import UserError, did_you_mean


def _scheduled(end: float) -> dict[str, Any]:
    return {"temperature.schedule": "linear", "temperature.tau_start": 0.01, "temperature.tau_end": end}


_LEARNED: dict[str, Any] = {"temperature.schedule": "learned", "temperature.parameterization": "exp"}

METHODS: dict[str, dict[str, Any]] = {
    "Baseline": _LEARNED,
    "FLT": {"temperature.schedule": "constant", "temperature.tau_start": 0.04},
    "TS S0": _scheduled(0.02),
    "TS S1": _scheduled(0.03),
    "TS S2": _scheduled(0.04),
    "TS S3": _scheduled(0.05),
    "TR softplus": {**_LEARNED, "temperature.parameterization": "softplus"},
    "TR exp/s": {**_LEARNED, "temperature.parameterization": "exp_scaled", "temperature.scale": 2.0},
    "SLRT": {**_LEARNED, "temperature.lr_multiplier": 0.1},
    "HS": {**_LEARNED, "swap.kind": "hard", "swap.probability": 1e-3},
    "SS": {**_LEARNED, "swap.kind": "soft", "swap.probability": 5e-2},
}
"""Parameters of each method of Yaras et al. 2024, as in the main table of the paper."""


def expand_method(params: Mapping[str, Any]) -> dict[str, Any]:
    """Replaces a ``method`` entry with the parameters of the method. Parameters that are given explicitly win.

    Raises:
        UserError: The method is unknown.
    """
    rest = dict(params)
    if "method" not in rest:
        return rest
    name = rest.pop("method")
    if not isinstance(name, str) or name not in METHODS:
        raise UserError(f"unknown method {name!r}{did_you_mean(str(name), METHODS)}")
    return {**METHODS[name], **rest}


def name_method(config: TrialConfig) -> str:
    """The method of a configuration in the short names of the paper, such as ``TS`` or ``TR softplus + SS``."""
    temperature, swap = config.temperature, config.swap
    if temperature.schedule == "constant":
        parts = ["FLT"]
    elif temperature.schedule != "learned":
        parts = ["TS" if temperature.schedule == "linear" else f"TS {temperature.schedule}"]
    else:
        named = {"exp": "", "exp_scaled": "TR exp/s", "softplus": "TR softplus"}[temperature.parameterization]
        slower = "SLRT" if temperature.lr_multiplier < 1 else ""
        parts = [part for part in (named, slower) if part]
    if swap.kind != "none" and swap.probability > 0:
        parts.append({"hard": "HS", "soft": "SS"}[swap.kind])
    return " + ".join(parts) or "Baseline"
