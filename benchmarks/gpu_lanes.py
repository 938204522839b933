"""How many steps do several trainings take that are trained as one? A part of ``gpu.py``. Not a script."""

from __future__ import annotations

import time

from gpu_data import Setting, configured, random_features, random_images, wait

from gaptune.config import TrialConfig
from gaptune.data import Store
from gaptune.trial.lanes import train_lanes

BATCH = 128
NUMBERS = (1, 2, 4, 8, 16, 32, 64)
WARM, TIMED = 4, 20


class EnoughError(Exception):
    """The steps that are measured have been taken."""


class Clock:
    """Called after each step of all lanes: times some, and then ends them.

    Attributes:
        seconds: Duration of a step.
    """

    def __init__(self, device: str, warm: int, timed: int) -> None:
        self._device = device
        self._warm = warm
        self._timed = timed
        self._step = 0
        self.seconds = 0.0

    def __call__(self, epochs: float | None = None) -> None:
        """Counts a step."""
        self._step += 1
        if self._step == self._warm:
            wait(self._device)
            self.seconds = -time.perf_counter()
        elif self._step == self._warm + self._timed:
            wait(self._device)
            self.seconds = (self.seconds + time.perf_counter()) / self._timed
            raise EnoughError


def lanes(setting: Setting) -> dict[str, dict[str, float]]:
    """Steps a second of all trainings together, by the number of lanes; one lane is a training as usual.

    They have the same seed, and temperatures of their own.
    """
    warm, timed = (1, 2) if setting.small else (WARM, TIMED)
    numbers, batch = ((1, 2), 8) if setting.small else (NUMBERS, BATCH)
    pairs = (warm + timed) * batch
    stores = {"scenes-tiny": random_images(setting, 32, pairs), "heads": random_features(setting, pairs)}
    found: dict[str, dict[str, float]] = {model: {} for model in stores}
    for model, store in stores.items():
        for number in numbers:
            configs = candidates(setting, model, batch, number)
            found[model][str(number)] = number / step_seconds(configs, store, Clock(setting.device, warm, timed))
    return found


def candidates(setting: Setting, model: str, batch: int, number: int) -> list[TrialConfig]:
    """Trials that differ in their temperature."""
    taus = [0.02 * 1.03**each for each in range(number)]
    given = {"training__batch_size": batch, "training__epochs": 1, "temperature__schedule": "constant"}
    return [configured(setting.device, model, temperature__tau_start=tau, **given) for tau in taus]


def step_seconds(configs: list[TrialConfig], store: Store, clock: Clock) -> float:
    """Trains them until the clock has seen enough."""
    try:
        list(train_lanes(configs, store, checkpoints=[None] * len(configs), progress=clock))
    except EnoughError:
        return clock.seconds
    raise AssertionError("there were not enough steps")
