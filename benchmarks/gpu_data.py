"""Random data and configurations for ``gpu.py``. Not a script."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from gaptune.config import TrialConfig, with_params
from gaptune.data import FeatureMeta, Store, StoreWriter
from gaptune.data.open import open_store
from gaptune.data.tokens import tokenize

WORDS = ("a", "photo", "of", "the", "red", "blue", "big", "small", "old", "dog", "cat", "man", "boat", "on", "near")
FEATURES = FeatureMeta(image=1280, text=384)
VALIDATION = 64


class Setting(NamedTuple):
    """Where a part runs.

    Attributes:
        device: ``cuda``, or ``cpu`` to test the benchmark itself.
        small: Whether everything is as small as it gets.
        folder: For temporary files.
    """

    device: str
    small: bool
    folder: Path


def captions(rng: np.random.Generator, count: int) -> list[str]:
    """Captions of 5 to 20 words."""
    return [" ".join(rng.choice(WORDS, length)) for length in rng.integers(5, 21, count)]


def random_images(setting: Setting, side: int, train: int, context: int = 77) -> Store:
    """A store of noise, with a caption for each image."""
    out, rng = setting.folder / f"images-{side}-{train}", np.random.default_rng(0)
    if out.exists():
        return open_store(str(out))
    with StoreWriter(out, side, context) as writer:
        for split, count in (("train", train), ("val", VALIDATION)):
            texts = captions(rng, count)
            for row, (text, tokens) in enumerate(zip(texts, tokenize(texts, context), strict=True)):
                pixels = rng.integers(0, 256, (side, side, 3), dtype=np.uint8)
                writer.add(split, pixels, [text], tokens[None], id=f"{split}-{row}")
        return writer.finish(name="noise", source={})


def random_features(setting: Setting, train: int) -> Store:
    """A store of random features."""
    out, rng = setting.folder / f"features-{train}", np.random.default_rng(0)
    if out.exists():
        return open_store(str(out))
    with StoreWriter(out, features=FEATURES) as writer:
        for split, count in (("train", train), ("val", VALIDATION)):
            for row in range(count):
                image, text = (rng.standard_normal(width, dtype=np.float32) for width in (1280, 384))
                writer.add(split, image, [f"{split} {row}"], text[None], id=f"{split}-{row}")
        return writer.finish(name="random features", source={})


def configured(device: str, model: str, **params: Any) -> TrialConfig:
    """The configuration of a training; ``__`` in a name is a dot."""
    given = {name.replace("__", "."): value for name, value in params.items()}
    return with_params(TrialConfig.model_validate({"model": {"name": model}, "device": device}), given)


def wait(device: str) -> None:
    """Waits until a card has done what it was given."""
    if device == "cuda":
        torch.cuda.synchronize()
