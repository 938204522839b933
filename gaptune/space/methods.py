"""The methods that the paper names, as presets of parameters, and the name of any set of parameters."""

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
"""Parameters of each method of Yaras et al. 2024 at the setting of its main table."""


def expand_method(params: Mapping[str, Any]) -> dict[str, Any]:
    """Replaces a ``method`` entry by the parameters that it stands for; parameters given beside it win.

    Raises:
        UserError: No method has that name.
    """
    rest = dict(params)
    if "method" not in rest:
        return rest
    name = rest.pop("method")
    if not isinstance(name, str) or name not in METHODS:
        raise UserError(f"unknown method {name!r}{did_you_mean(str(name), METHODS)}")
    return {**METHODS[name], **rest}


def name_method(config: TrialConfig) -> str:
    """What a configuration does, in the paper's short names, such as ``TS`` or ``TR softplus + SS``."""
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
