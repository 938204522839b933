"""Parameters of a space that have no effect, because the feature that they configure is never active."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from gaptune.config import TemperatureConfig, TrialConfig, flatten
from gaptune.space.methods import expand_method
from gaptune.space.model import Parameter, Real, Space

_Needs = dict[str, tuple[str, ...]]

_LEARNED: _Needs = {"temperature.schedule": ("learned",)}
_SCHEDULES: tuple[str, ...] = get_args(TemperatureConfig.model_fields["schedule"].annotation)
_MOVED: _Needs = {"temperature.schedule": tuple(one for one in _SCHEDULES if one not in ("learned", "constant"))}
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
"""Parameters that have an effect only if other parameters have certain values. All others always have an effect."""

_MOST = 10_000


def idle_parameters(space: Space, base: Mapping[str, Any] | None = None) -> list[str]:
    """Returns a sentence for each parameter that varies and has no effect.

    Args:
        space: The search space.
        base: Values of a sweep for all parameters, used for those that are not in the space. None for the defaults,
            which a sweep config may change.
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
        unless = "" if base is not None or own >= needed.keys() else " unless the sweep config sets it"
        found.append(
            f"{parameter.name} varies but has no effect: it is used only if {where}, "
            f"which is never the case in this space{unless}"
        )
    return found


def _settings(space: Space, parameter: Parameter, base: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """All combinations of the parameters that decide whether a parameter has an effect; None if there are too many."""
    deciding = {parameter.name, "method", *MATTERS[parameter.name]}
    for each in reversed(space.parameters):  # conditions name earlier parameters
        if each.name in deciding:
            deciding |= each.when.keys()
    settings: list[dict[str, Any]] = [{}]
    for each in space.parameters:
        if each.name in deciding:
            # The value of a continuous parameter decides nothing.
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
