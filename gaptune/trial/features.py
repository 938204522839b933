"""Frozen towers: their features computed once into a store, on which two linear heads and τ are trained."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from gaptune.config import ModelConfig
from gaptune.data import FeatureMeta, Store, StoreWriter
from gaptune.errors import UserError
from gaptune.trial.build_model import make_model
from gaptune.trial.streams import global_seed

log = logging.getLogger(__name__)

_BATCH = 128


@torch.no_grad()
def build_features(
    model: ModelConfig,
    store: Store,
    *,
    seed: int,
    out: Path,
    progress: Callable[[int, int], None],
    say: Callable[[str], None] = log.warning,
) -> Store:
    """Runs frozen towers over every image and caption of a store once, and keeps what comes out.

    Features are the towers' embeddings of length 1, in float16. The store's hash covers them, and so the weights.

    Args:
        model: The towers.
        store: Images and captions.
        seed: Seed of the weights where they are random.
        out: The store to make.
        progress: Called with the number of images done and their total.
        say: Called with each remark on the weights.

    Raises:
        UserError: ``out`` exists, or the model does not fit the data.
    """
    if store.meta.features:
        raise UserError(f"{store.path} holds features already")
    with global_seed(seed, torch.device("cpu")):
        clip = make_model(model, store.meta).eval()
    for remark in clip.remarks:
        say(remark)
    total = sum(split.images for split in store.meta.splits.values())
    done = 0
    nothing = torch.zeros(1, store.meta.context_length, dtype=torch.int64)
    width = clip.encode_text(nothing).shape[1]
    with StoreWriter(out, features=FeatureMeta(image=width, text=width)) as writer:
        for name in ("train", "val"):
            split = store.split(name)
            ids = split.ids
            for start in range(0, len(split), _BATCH):
                rows = np.arange(start, min(start + _BATCH, len(split)))
                images = clip.encode_image(torch.from_numpy(split.gather(rows))).half().numpy()
                first, last = split.offsets[rows[0]], split.offsets[rows[-1] + 1]
                texts = clip.encode_text(torch.from_numpy(split.texts[first:last].copy())).half().numpy()
                for row, image in zip(rows.tolist(), images, strict=True):
                    own = texts[split.offsets[row] - first : split.offsets[row + 1] - first]
                    writer.add(name, image, split.captions(row), own, id=ids[row])
                done += len(rows)
                progress(done, total)
        about = {"builder": "features", "model": model.model_dump(), "seed": seed, "of": store.meta.content_hash}
        return writer.finish(name=f"{store.meta.name} features", source=about)
