"""A model of gaptune as a pair of frozen towers, for stores of features."""

from __future__ import annotations

import torch

from gaptune.config import ModelConfig
from gaptune.data import Store
from gaptune.data.tokens import tokenize
from gaptune.errors import UserError
from gaptune.towers.tower import Tower
from gaptune.trial.build_model import make_model
from gaptune.trial.device import pick_device
from gaptune.trial.streams import global_seed


def model_towers(model: ModelConfig, store: Store, *, seed: int) -> tuple[Tower, Tower, list[str]]:
    """The image tower and the text tower of a model; their features are its embeddings, of length 1.

    Args:
        model: The model.
        store: Images and captions.
        seed: Seed of the weights where they are random.

    Returns:
        The towers, and remarks on their weights.

    Raises:
        UserError: The model does not fit the data, or its weights cannot be loaded.
    """
    if store.meta.features:
        raise UserError(f"{store.path} holds features already")
    device = torch.device(pick_device("auto"))
    with global_seed(seed, torch.device("cpu")):
        clip = make_model(model, store.meta).eval().to(device)
    length = store.meta.context_length
    packages = ("open_clip_torch", "torch")
    name = f"{model.name}@{model.pretrained or 'random'}"
    image = Tower(
        name,
        "image",
        clip.tower,
        lambda images: clip.encode_image(torch.from_numpy(images).to(device)),
        preprocessing=f"resized to {clip.image_size} pixels, mean and std of {model.name}",
        packages=packages,
    )
    text = Tower(
        name,
        "text",
        clip.tower,
        lambda texts: clip.encode_text(torch.from_numpy(tokenize(texts, length)).to(device)),
        preprocessing=f"up to {length} tokens of CLIP",
        packages=packages,
    )
    return image, text, list(clip.remarks)
