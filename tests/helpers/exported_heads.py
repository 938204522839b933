"""Heads with random weights, as their export and as gaptune itself embeds by them."""

import numpy as np
import torch

from gaptune.config import TrialConfig
from gaptune.trial.embed import Features, evaluating
from gaptune.trial.export import export_model
from gaptune.trial.heads import Heads

FEATURE_OPTIONS = ({"head": "linear"}, {"head": "mlp", "bias": False}, {"head": "residual", "normalize": False})
"""Options of heads, all kinds among them."""


def export_heads(store, out, *, card="# card", **options):
    """Exports random heads for a store of features; returns what gaptune embeds by them, see ``own_embeddings``."""
    model = {"name": "heads", "width": 16, **options}
    config = TrialConfig.model_validate({"model": model, "data": {"store": str(store.path)}})
    torch.manual_seed(0)
    heads = Heads(config.model, store.meta)
    for parameter in heads.parameters():  # the last layer of a residual head starts at 0
        torch.nn.init.normal_(parameter, std=0.1)
    export_model(config, store, {"model": heads.tower.state_dict()}, beta=25.0, card=card, out=out)
    return lambda split: own_embeddings(heads, split)


def own_embeddings(heads, split):
    """Embeddings of the images and of the texts of a split."""
    with evaluating(heads):
        features = Features(heads, torch.device("cpu"), "fp32")
        return features.images(split).numpy(), features.texts(split.texts).numpy()


def stored_features(split):
    """The features of the images and of the texts of a split, float32."""
    return split.gather(np.arange(len(split))).astype(np.float32), split.texts.astype(np.float32)
