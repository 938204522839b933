"""What a sweep tries: how much of its space, and what makes two sweeps the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gaptune.config import SweepConfig
from gaptune.errors import UserError
from gaptune.ledger import SweepHeader
from gaptune.space.model import Space

_NOT_COMPARED = ("resources", "search", "data", "device", "storage", "checkpoints")
_OF_SEARCH = ("sampler", "seed", "seeds", "startup_trials")
_POINT = "space.points_to_evaluate"
_WEIGHTS, _PLACE = "model.pretrained (content)", "model.pretrained"
_SHOWN = 5


def num_candidates(space: Space, sweep: SweepConfig) -> int:
    """How many candidates a sweep draws: no more than the space holds."""
    if space.grid:
        return len(space.combinations())
    size = space.size()
    return sweep.search.candidates if size is None else min(sweep.search.candidates, size)


def check_same(there: SweepHeader, asked: SweepHeader, folder: Path, *, more_points: bool = False) -> None:
    """Refuses to go on with a sweep that is another one.

    Args:
        there: The header in the ledger.
        asked: The header of what is asked for now.
        folder: The sweep's folder.
        more_points: Whether further points may have been added behind those that are there.

    Raises:
        UserError: They differ; with the differences.
    """
    if there.name != folder.name:
        raise UserError(f"{folder} holds the ledger of another sweep, {there.name!r}; rename the folder to that")
    old, new = _what_matters(there), _what_matters(asked)
    if "weights" not in there.event:  # an older gaptune did not say
        new.pop(_WEIGHTS, None)
    if _WEIGHTS in old and _WEIGHTS in new:  # where they lie does not matter then
        old.pop(_PLACE), new.pop(_PLACE)
    names = [name for name in sorted({*old, *new}) if name in old or not (more_points and name.startswith(_POINT))]
    changed = [
        f"{name}: {_short(old.get(name))} → {_short(new.get(name))}" for name in names if old.get(name) != new.get(name)
    ]
    if changed:
        more = f"; and {len(changed) - _SHOWN} more" if len(changed) > _SHOWN else ""
        raise UserError(
            f"a different sweep named {folder.name!r} exists ({'; '.join(changed[:_SHOWN])}{more}): "
            "choose another --name"
        )


def _what_matters(header: SweepHeader) -> dict[str, Any]:
    """Space, data, objectives, sampler, and how a trial is trained; not how many run where."""
    sweep = SweepConfig.model_validate(header.config).model_dump(mode="json")  # an older one lacks newer settings
    space = header.space
    flat: dict[str, Any] = {"data.hash": header.data.hash, "space.grid": space["grid"]}
    flat.update({f"{_POINT}[{index}]": point for index, point in enumerate(space["points_to_evaluate"])})
    if header.weights:
        flat[_WEIGHTS] = header.weights
    flat.update({f"search.{name}": sweep["search"][name] for name in _OF_SEARCH})
    flat.update({f"space.{name}": parameter for name, parameter in space["params"].items()})
    if not space["grid"]:  # a sampler draws one parameter after the other; a grid is the same in any order
        flat["space (order)"] = list(space["params"])
    for group, value in sweep.items():
        if group in _NOT_COMPARED:
            continue
        flat.update({f"{group}.{leaf}": v for leaf, v in value.items()} if isinstance(value, dict) else {group: value})
    return flat


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 120 else text[:119] + "…"
