"""A small real store and short trainings on it."""

import numpy as np
import pytest

from gaptune.config import TrialConfig, with_params
from gaptune.data import StoreWriter
from gaptune.data.scenes import CONTEXT_LENGTH, PROMPTS, SHAPES, SIDE, caption, draw_attributes, paint
from gaptune.data.tokens import tokenize

SPLITS = {"train": 128, "val": 64, "probe_train": 40, "probe_test": 20}


@pytest.fixture(scope="session")
def store(tmp_path_factory):
    """Scenes, with two to four captions for each image of train and val."""
    prompts = [template.format(shape) for shape in SHAPES for template in PROMPTS]
    with StoreWriter(tmp_path_factory.mktemp("data") / "few-scenes", SIDE, CONTEXT_LENGTH) as writer:
        for index, (split, n) in enumerate(SPLITS.items()):
            rng = np.random.default_rng((7, index))
            labeled = split.startswith("probe")
            scenes = draw_attributes(rng, n, most_objects=1 if labeled else 2)
            for row, image in enumerate(paint(scenes, rng)):
                texts = [caption(scenes, row, rng) for _ in range(1 if labeled else rng.integers(2, 5))]
                label = int(scenes.shape[row, 0]) if labeled else None
                tokens = tokenize(texts, CONTEXT_LENGTH)
                writer.add(split, image, texts, tokens, id=f"{split}-{row}", label=label)
        return writer.finish(
            name="few-scenes",
            source={},
            classes=list(SHAPES),
            prompts=PROMPTS,
            prompt_tokens=tokenize(prompts, CONTEXT_LENGTH),
        )


@pytest.fixture(scope="session")
def short():
    """Makes the configuration of a training of 2 epochs and 8 steps, on the CPU, with some parameters set."""
    base = {"training.epochs": 2, "training.batch_size": 32, "optimizer.lr": 2e-3, "device": "cpu"}
    return lambda params=None, **more: with_params(TrialConfig(), base | (params or {}) | more)
