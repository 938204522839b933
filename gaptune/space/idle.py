"""Knobs that a space varies for nothing, because what they belong to is never switched on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gaptune.config import TrialConfig, flatten
from gaptune.space.methods import expand_method
from gaptune.space.model import Knob, Real, Space

_Needs = dict[str, tuple[str, ...]]

_LEARNT: _Needs = {"temperature.schedule": ("learnt",)}
_MOVED: _Needs = {"temperature.schedule": ("linear", "cosine", "exponential", "step")}
_SWAPPED: _Needs = {"swap.kind": ("hard", "soft")}

MATTERS: dict[str, _Needs] = {
    "temperature.parameterization": _LEARNT,
    "temperature.scale": {**_LEARNT, "temperature.parameterization": ("exp_scaled",)},
    "temperature.tau_init": _LEARNT,
    "temperature.lr": _LEARNT,
    "temperature.lr_multiplier": _LEARNT,
    "temperature.tau_min": _LEARNT,
    "temperature.tau_max": _LEARNT,
    "temperature.tau_start": {"temperature.schedule": ("constant", *_MOVED["temperature.schedule"])},
    "temperature.tau_end": _MOVED,
    "temperature.share": _MOVED,
    "temperature.steps": {"temperature.schedule": ("step",)},
    "swap.probability": _SWAPPED,
    "swap.start": _SWAPPED,
    "swap.end": _SWAPPED,
    "swap.renormalize": _SWAPPED,
}
"""The knobs that do something only where others have certain values; all others always do."""

_MOST = 10_000


def idle_knobs(space: Space, base: Mapping[str, Any] | None = None) -> list[str]:
    """A sentence for each knob that varies and can do nothing.

    Args:
        space: The search space.
        base: A sweep's values of all knobs, for those that the space leaves alone; None for the defaults, which a
            sweep may change.
    """
    own = {knob.name for knob in space.knobs}
    found = []
    for knob in space.knobs:
        if knob.name not in MATTERS or knob.fixed:
            continue
        settings = _settings(space, knob, base or flatten(TrialConfig()))
        needed = MATTERS[knob.name]
        if settings is None or any(all(each[name] in needed[name] for name in needed) for each in settings):
            continue
        where = " and ".join(
            f"{name} is {'one of ' if len(values) > 1 else ''}{', '.join(values)}" for name, values in needed.items()
        )
        unless = "" if base is not None or own >= needed.keys() else ", unless the sweep's YAML sets it"
        found.append(
            f"{knob.name} varies and does nothing: it matters only where {where}, "
            f"which is so in no trial of this space{unless}"
        )
    return found


def _settings(space: Space, knob: Knob, base: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """What the knobs that decide about a knob can be where it is active; None where that is too much to go through."""
    deciding = {knob.name, "method", *MATTERS[knob.name]}
    for each in reversed(space.knobs):  # conditions name earlier knobs
        if each.name in deciding:
            deciding |= each.when.keys()
    settings: list[dict[str, Any]] = [{}]
    for each in space.knobs:
        if each.name in deciding:
            # A continuous knob decides nothing by its value.
            values = (0.0,) if isinstance(each.distribution, Real) else each.distribution.values[: _MOST + 1]
            settings = [
                {**setting, **({each.name: value} if active else {})}
                for setting in settings
                if (active := each.active(setting)) or each is not knob
                for value in (values if active else (None,))
            ]
            if len(settings) > _MOST:
                return None
    return [{**base, **expand_method(setting)} for setting in settings]
