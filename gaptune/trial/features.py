"""Frozen towers: their features computed once into a store, on which two linear heads and τ are trained."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gaptune.config import Model
from gaptune.config.models import HEADS, check_model
from gaptune.data import Store, StoreMeta, StoreWriter
from gaptune.errors import UserError
from gaptune.trial.architecture import architecture_of_state
from gaptune.trial.augment import resize
from gaptune.trial.model import Clip
from gaptune.trial.pretrained import architecture_for, check_pretrained, load_pretrained, read_weights, remarks
from gaptune.trial.streams import global_seed

log = logging.getLogger(__name__)

_BATCH = 128
_WIDTH = 128  # of the embeddings that the heads learn


class LinearHeads(Clip):
    """A linear projection for each modality, on the features of a store that ``build_features`` made.

    To the training it is a ``Clip``: stored features take the place of images and tokens.

    Args:
        data: What the store says of its features.

    Raises:
        UserError: The store holds images.
    """

    def __init__(self, data: StoreMeta) -> None:
        nn.Module.__init__(self)
        if not data.features:
            raise UserError(f"{HEADS} trains on features; make a store of them: gaptune data features {data.name} …")
        self.tower = _Heads(data.features)
        self.name, self.architecture = HEADS, None
        self.image_size, self.context_length = 1, data.context_length

    def pixels(self, images: Tensor) -> Tensor:
        """Stored features, uint8 (n, 2 d), as floats (n, d, 1, 1)."""
        return images.view(torch.float16).float()[:, :, None, None]

    def text_features(self, tokens: Tensor) -> Tensor:
        """L2-normalized embeddings of stored features, shape (n, d), of which tokens hold the bits."""
        return F.normalize(self.tower.encode_text(tokens.to(torch.int16).view(torch.float16).float()), dim=1)


class _Heads(nn.Module):
    """What stands in for open_clip's model."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.image = nn.Linear(features, _WIDTH, bias=False)
        self.text = nn.Linear(features, _WIDTH, bias=False)

    def encode_image(self, pixels: Tensor) -> Tensor:
        return self.image(pixels.flatten(1))  # type: ignore[no-any-return]

    def encode_text(self, features: Tensor) -> Tensor:
        return self.text(features)  # type: ignore[no-any-return]


def make_model(model: Model, data: StoreMeta, *, state: dict[str, Any] | None = None) -> Clip:
    """The model that a configuration names, for the data of a store.

    With torch's default device "meta" only names and shapes of weights are held against it.

    Args:
        model: Which.
        data: What the store says of itself.
        state: A checkpoint of this model, whose weights are loaded right after; None to start from the weights that
            the configuration names.

    Raises:
        UserError: They do not fit.
        ValueError: The checkpoint does not hold what it should.
    """
    if state is None:
        check_pretrained(model)
    if model.name == HEADS:
        return LinearHeads(data)
    if data.features:
        raise UserError(f"{data.name} is a store of features, on which only model {HEADS} trains, not {model.name}")
    if state is not None:
        check_model(model)
        return Clip(model, data, architecture_of_state(state, model))
    shapes_only = torch.get_default_device().type == "meta"
    weights = read_weights(model, shapes_only=shapes_only)
    clip = Clip(model, data, architecture_for(model, weights, data))
    clip.remarks = remarks(model, weights, data)
    if weights is not None:
        load_pretrained(clip, weights, data)
        if not (shapes_only or weights.of_tag):
            clip.weights_hash = weights.content_hash(model.name)
    return clip


@torch.no_grad()
def build_features(
    model: Model,
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
        seed: Of the weights where they are random.
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
    width = int(clip.text_features(torch.zeros(1, store.meta.context_length, dtype=torch.int64)).shape[1])
    total = sum(split.images for split in store.meta.splits.values())
    done = 0
    with StoreWriter(out, 1, width, features=width) as writer:
        for name in ("train", "val"):
            split = store.split(name)
            ids = split.ids
            for start in range(0, len(split), _BATCH):
                rows = np.arange(start, min(start + _BATCH, len(split)))
                pixels = resize(clip.pixels(torch.from_numpy(split.gather(rows))), clip.image_size)
                images = clip.image_features(pixels).half().numpy()
                first, last = split.offsets[rows[0]], split.offsets[rows[-1] + 1]
                texts = clip.text_features(torch.from_numpy(split.tokens[first:last].astype(np.int64))).half().numpy()
                for row, image in zip(rows.tolist(), images, strict=True):
                    own = texts[split.offsets[row] - first : split.offsets[row + 1] - first]
                    writer.add(name, image.view(np.uint8), split.captions(row), own.view(np.uint16), id=ids[row])
                done += len(rows)
                progress(done, total)
        about = {"builder": "features", "model": model.model_dump(), "seed": seed, "of": store.meta.content_hash}
        return writer.finish(name=f"{store.meta.name} features", source=about)
