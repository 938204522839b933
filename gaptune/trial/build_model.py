"""A model from its config: towers, heads, or trained weights."""

from __future__ import annotations

from typing import Any

import torch

from gaptune.config import HEADS, ModelConfig
from gaptune.config.models import check_model
from gaptune.data import StoreMeta
from gaptune.errors import UserError
from gaptune.trial.architecture import architecture_of_state
from gaptune.trial.encoder import DualEncoder
from gaptune.trial.heads import Heads
from gaptune.trial.model import ClipModel
from gaptune.trial.pretrained import architecture_for, check_pretrained, load_pretrained, read_weights, remarks


def make_model(model: ModelConfig, data: StoreMeta, *, state: dict[str, Any] | None = None) -> DualEncoder:
    """Builds the model that a configuration names, for the data of a store.

    With torch's default device "meta" only names and shapes of the weights are compared.

    Args:
        model: Name and options of the model.
        data: Description of the store.
        state: A checkpoint of this model, whose weights are loaded right after; None to start from the weights that
            the configuration names.

    Raises:
        UserError: They do not fit.
        ValueError: The checkpoint does not hold what it should.
    """
    if state is None:
        check_pretrained(model)
    if model.name == HEADS:
        return Heads(model, data)
    if data.features:
        raise UserError(f"{data.name} is a store of features, on which only model {HEADS} trains, not {model.name}")
    if state is not None:
        check_model(model)
        return ClipModel(model, data, architecture_of_state(state, model))
    shapes_only = torch.get_default_device().type == "meta"
    weights = read_weights(model, shapes_only=shapes_only)
    clip = ClipModel(model, data, architecture_for(model, weights, data))
    clip.remarks = remarks(model, weights, data)
    if weights is not None:
        load_pretrained(clip, weights, data)
        if not (shapes_only or weights.of_tag):
            clip.weights_hash = weights.content_hash(model.name)
    return clip
