"""The identity of a sweep: its number of candidates, and the settings that two runs of it must share."""

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
    """Returns the number of candidates of a sweep; at most the number of combinations in the space."""
    if space.grid:
        return len(space.combinations())
    size = space.size()
    return sweep.search.candidates if size is None else min(sweep.search.candidates, size)


def check_same(there: SweepHeader, asked: SweepHeader, folder: Path, *, more_points: bool = False) -> None:
    """Refuses to resume a sweep with different settings.

    Args:
        there: Header in the ledger.
        asked: Header of the requested sweep.
        folder: Directory of the sweep.
        more_points: Whether the requested sweep may have further points to evaluate after the existing ones.

    Raises:
        UserError: The headers differ. The message lists the differences.
    """
    if there.name != folder.name:
        raise UserError(f"{folder} contains the ledger of another sweep: rename the directory to {there.name!r}")
    old, new = _what_matters(there), _what_matters(asked)
    if "weights" not in there.event:  # written by an older version
        new.pop(_WEIGHTS, None)
    if _WEIGHTS in old and _WEIGHTS in new:  # with equal content, the path does not matter
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
    """Returns the settings that decide the results: space, data, objectives, sampler, and training."""
    sweep = SweepConfig.model_validate(header.config).model_dump(mode="json")  # with defaults for newer settings
    space = header.space
    flat: dict[str, Any] = {"data.hash": header.data.hash, "space.grid": space["grid"]}
    flat.update({f"{_POINT}[{index}]": point for index, point in enumerate(space["points_to_evaluate"])})
    if header.weights:
        flat[_WEIGHTS] = header.weights
    flat.update({f"search.{name}": sweep["search"][name] for name in _OF_SEARCH})
    flat.update({f"space.{name}": parameter for name, parameter in space["params"].items()})
    if not space["grid"]:  # the order changes what a sampler draws, but not a grid
        flat["space (order)"] = list(space["params"])
    for group, value in sweep.items():
        if group in _NOT_COMPARED:
            continue
        flat.update({f"{group}.{leaf}": v for leaf, v in value.items()} if isinstance(value, dict) else {group: value})
    return flat


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 120 else text[:119] + "…"
