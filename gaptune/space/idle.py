"""Parameters that a space varies for nothing, because what they belong to is never switched on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gaptune.config import TrialConfig, flatten
from gaptune.space.methods import expand_method
from gaptune.space.model import Parameter, Real, Space

_Needs = dict[str, tuple[str, ...]]

_LEARNED: _Needs = {"temperature.schedule": ("learned",)}
_MOVED: _Needs = {"temperature.schedule": ("linear", "cosine", "exponential", "step")}
_SWAPPED: _Needs = {"swap.kind": ("hard", "soft")}

MATTERS: dict[str, _Needs] = {
    "temperature.parameterization": _LEARNED,
    "temperature.scale": {**_LEARNED, "temperature.parameterization": ("exp_scaled",)},
    "temperature.tau_init": _LEARNED,
    "temperature.lr": _LEARNED,
    "temperature.lr_multiplier": _LEARNED,
    "temperature.tau_min": _LEARNED,
    "temperature.tau_max": _LEARNED,
    "temperature.tau_start": {"temperature.schedule": ("constant", *_MOVED["temperature.schedule"])},
    "temperature.tau_end": _MOVED,
    "temperature.schedule_fraction": _MOVED,
    "temperature.steps": {"temperature.schedule": ("step",)},
    "swap.probability": _SWAPPED,
    "swap.start": _SWAPPED,
    "swap.end": _SWAPPED,
    "swap.renormalize": _SWAPPED,
}
"""The parameters that do something only where others have certain values; all others always do."""

_MOST = 10_000


def idle_parameters(space: Space, base: Mapping[str, Any] | None = None) -> list[str]:
    """A sentence for each parameter that varies and can do nothing.

    Args:
        space: The search space.
        base: A sweep's values of all parameters, for those that the space leaves alone; None for the defaults, which a
            sweep may change.
    """
    own = {parameter.name for parameter in space.parameters}
    found = []
    for parameter in space.parameters:
        if parameter.name not in MATTERS or parameter.fixed:
            continue
        settings = _settings(space, parameter, base or flatten(TrialConfig()))
        needed = MATTERS[parameter.name]
        if settings is None or any(all(each[name] in needed[name] for name in needed) for each in settings):
            continue
        where = " and ".join(
            f"{name} is {'one of ' if len(values) > 1 else ''}{', '.join(values)}" for name, values in needed.items()
        )
        unless = "" if base is not None or own >= needed.keys() else ", unless the sweep's YAML sets it"
        found.append(
            f"{parameter.name} varies and does nothing: it matters only where {where}, "
            f"which is so in no trial of this space{unless}"
        )
    return found


def _settings(space: Space, parameter: Parameter, base: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """The values of the parameters that decide about an active parameter; None for too many."""
    deciding = {parameter.name, "method", *MATTERS[parameter.name]}
    for each in reversed(space.parameters):  # conditions name earlier parameters
        if each.name in deciding:
            deciding |= each.when.keys()
    settings: list[dict[str, Any]] = [{}]
    for each in space.parameters:
        if each.name in deciding:
            # A continuous parameter decides nothing by its value.
            values = (0.0,) if isinstance(each.distribution, Real) else each.distribution.values[: _MOST + 1]
            settings = [
                {**setting, **({each.name: value} if active else {})}
                for setting in settings
                if (active := each.active(setting)) or each is not parameter
                for value in (values if active else (None,))
            ]
            if len(settings) > _MOST:
                return None
    return [{**base, **expand_method(setting)} for setting in settings]
