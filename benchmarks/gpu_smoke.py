"""Does a training on a card do what one on the CPU does? A part of ``gpu.py``. Not a script."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from typing import Any

import torch
from gpu_data import Setting, configured, random_features, random_images

from gaptune.data import Store
from gaptune.trial import train
from gaptune.trial.checkpoint import read_checkpoint
from gaptune.trial.gpu_memory import is_out_of_memory, limit_memory, memory_use, release_memory
from gaptune.trial.lanes import train_lanes

BATCH, STEPS = 32, 4
SIDES = {"scenes-tiny": 32, "photos-small": 64}
CROPS = {"augment__crop_min": 0.5, "augment__flip": True}
SCHEDULES = ("constant", "linear", "cosine", "exponential", "step")
TOLERANCE = {"fp32": 5e-3, "tf32": 2e-2, "bf16": 5e-2}


def data_of(setting: Setting, model: str) -> Store:
    """A small store for a model, from which a training takes ``STEPS`` steps an epoch."""
    if model == "heads":
        return random_features(setting, BATCH * STEPS)
    return random_images(setting, SIDES[model], BATCH * STEPS)


def reports(setting: Setting, model: str, device: str, **params: Any) -> list[dict[str, float]]:
    """The metrics of a training of two epochs, report by report."""
    given = {"training__epochs": 2, "training__batch_size": BATCH} | params
    return [report.metrics for report in train(configured(device, model, **given), data_of(setting, model))]


def as_on_the_cpu(setting: Setting, model: str, **params: Any) -> str:
    """Trains on both; the mean losses of the epochs, and what is measured of the features, must agree."""
    expected, found = (reports(setting, model, device, **params) for device in ("cpu", setting.device))
    return within(expected, found, TOLERANCE[params.get("training__precision", "fp32")])


def within(expected: list[dict[str, float]], found: list[dict[str, float]], allowed: float) -> str:
    """The largest relative difference of some metrics, which must not be too large."""
    worst = 0.0
    for one, other in zip(expected, found, strict=True):
        for name in ("train/loss", "geometry/gap", "temperature/tau"):
            worst = max(worst, abs(one[name] - other[name]) / max(abs(one[name]), 1e-2))
    assert worst <= allowed, f"differs by {worst:.1e} from the CPU; {allowed:.0e} is allowed"
    return f"ok, differs by {worst:.1e}"


def lanes_as_on_the_cpu(setting: Setting) -> str:
    """Trains three as one on the card, and the last of them alone on the CPU."""
    kinds = ("constant", "linear", "cosine")
    given = {"training__epochs": 2, "training__batch_size": BATCH, "temperature__tau_end": 0.1}
    configs = [configured(setting.device, "scenes-tiny", temperature__schedule=kind, **given) for kind in kinds]
    found: list[dict[str, float]] = []
    for results in train_lanes(configs, data_of(setting, "scenes-tiny"), checkpoints=[None] * len(configs)):
        found += [result.metrics for index, result in results.items() if index == len(configs) - 1]
    expected = reports(setting, "scenes-tiny", "cpu", temperature__schedule=kinds[-1], temperature__tau_end=0.1)
    return within(expected, found, TOLERANCE["fp32"])


def resumes_bit_equal(setting: Setting) -> str:
    """Trains through, and with an interruption; with deterministic algorithms, the weights must be equal."""
    store = data_of(setting, "photos-small")
    params = {"training__epochs": 2, "training__batch_size": BATCH, "training__deterministic": True, **CROPS}
    config = configured(setting.device, "photos-small", **params)
    through, halfway = setting.folder / "through", setting.folder / "halfway"
    for folder in (through, halfway):
        shutil.rmtree(folder, ignore_errors=True)
    list(train(config, store, checkpoints=through))
    next(train(config, store, checkpoints=halfway))
    list(train(config, store, checkpoints=halfway))
    one, other = (read_checkpoint(folder)["model"] for folder in (through, halfway))
    unequal = [name for name, weight in one.items() if not torch.equal(weight, other[name])]
    assert not unequal, f"{len(unequal)} of {len(one)} weights differ, for example {unequal[0]}"
    return "ok"


def runs_out_of_memory(setting: Setting) -> str:
    """A training that needs too much must end with an error that is recognized, and another one must run after it."""
    if setting.device == "cpu":
        return "not measured"
    limit_memory(0.02)
    try:
        store = random_images(setting, 64, 2048)
        list(train(configured("cuda", "RN50", training__batch_size=2048, training__epochs=1), store))
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        said = str(memory_use())
    else:
        raise AssertionError("RN50 with a batch of 2048 fits into 2% of the card")
    finally:
        limit_memory(1.0)
    release_memory()
    reports(setting, "scenes-tiny", "cuda")
    return f"ok: {said}"


def smoke(setting: Setting) -> dict[str, str]:
    """Each check by name: what begins with ``ok``, ``not measured``, or what is wrong."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read once, and needed by deterministic algorithms
    soft, hard = ({"swap__kind": kind, "swap__probability": 1.0} for kind in ("soft", "hard"))
    checks: dict[str, Callable[[], str]] = {
        "scenes-tiny": lambda: as_on_the_cpu(setting, "scenes-tiny"),
        "photos-small, crops": lambda: as_on_the_cpu(setting, "photos-small", **CROPS),
        "heads": lambda: as_on_the_cpu(setting, "heads"),
        "soft swap, renormalized": lambda: as_on_the_cpu(setting, "scenes-tiny", **soft, swap__renormalize=True),
        "hard swap": lambda: as_on_the_cpu(setting, "scenes-tiny", **hard),
        "clipped gradients": lambda: as_on_the_cpu(setting, "scenes-tiny", optimizer__clip_norm=0.1),
        "lanes": lambda: lanes_as_on_the_cpu(setting),
        "resuming is bit-equal": lambda: resumes_bit_equal(setting),
    }
    for precision in ("tf32", "bf16"):
        checks[precision] = lambda given=precision: as_on_the_cpu(
            setting, "photos-small", training__precision=given, **CROPS
        )
    for kind in SCHEDULES:
        tau = {"temperature__tau_start": 0.1, "temperature__tau_end": 0.03}
        checks[f"schedule {kind}"] = lambda given=kind, tau=tau: as_on_the_cpu(
            setting, "heads", temperature__schedule=given, **tau
        )
    checks["out of memory"] = lambda: runs_out_of_memory(setting)
    some = {"hard swap", "resuming is bit-equal", "out of memory", "lanes"}
    return {name: checked(check) for name, check in checks.items() if not setting.small or name in some}


def checked(check: Callable[[], str]) -> str:
    """What a check says, or what it raised."""
    try:
        return check()
    except Exception as error:  # each check is reported, whatever it raises
        return f"{type(error).__name__}: {error}"[:300]


def failed(result: str) -> bool:
    """Whether a check has found an error."""
    return not result.startswith(("ok", "not measured"))
