"""Placeholder of the branch ``lanes``, which replaces this file: trainings in turn, with the same interface."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from gaptune.config import TrialConfig
from gaptune.data import Store
from gaptune.trial.embed import Progress, silent
from gaptune.trial.loop import train
from gaptune.trial.loss import NonFinite
from gaptune.trial.saver import Report

LaneResult = Report | NonFinite


def lanes_key(config: TrialConfig) -> str:
    """A text that is equal for trials that can be lanes of one training."""
    own: Any = {"temperature": True, "swap": True, "seed": True, "optimizer": {"lr", "weight_decay"}}
    return json.dumps(config.model_dump(mode="json", exclude=own), sort_keys=True)


def why_not(config: TrialConfig, store: Store) -> str | None:
    """Why a model cannot be trained in lanes; None if it can."""
    return None


def train_lanes(
    configs: Sequence[TrialConfig],
    store: Store,
    *,
    checkpoints: Sequence[Path | None],
    progress: Progress = silent,
    weights: str | None = None,
    dropped: Callable[[], Collection[int]],
) -> Iterator[dict[int, LaneResult]]:
    """Trains lanes in turn."""
    going = {
        lane: train(config, store, checkpoints=folder, progress=progress, weights=weights)
        for lane, (config, folder) in enumerate(zip(configs, checkpoints, strict=True))
    }
    while going:
        found: dict[int, LaneResult] = {}
        for lane, reports in list(going.items()):
            try:
                found[lane] = next(reports)
            except StopIteration:
                del going[lane]
            except NonFinite as error:
                found[lane] = error
                del going[lane]
        if found:
            yield found
        for lane in dropped():
            going.pop(lane, None)
