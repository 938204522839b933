"""Image towers of torchvision: the features before the last linear layer of a classification model."""

from __future__ import annotations

from torch import nn

from gaptune.errors import UserError, did_you_mean
from gaptune.towers.tower import Request, Tower, fill, frozen, image_network


def image_tower(request: Request) -> Tower:
    """The features of a model, with the preprocessing of its weights, or of its default weights for a file."""
    from torchvision.models import get_model, get_model_weights, list_models

    if request.name not in list_models():
        hint = did_you_mean(request.name, list_models())
        raise UserError(f"{request.reference}: torchvision has no model {request.name!r}{hint}")
    names = get_model_weights(request.name).__members__
    published = request.weights is None or request.weights in names
    weights = names[request.weights or "DEFAULT"] if published else names["DEFAULT"]
    model = get_model(request.name, weights=None)
    if published:
        model.load_state_dict(weights.get_state_dict(check_hash=True, weights_only=True))
    if hasattr(model, "transform_input"):  # Inception and GoogLeNet normalize pixels once more for these weights
        model.transform_input = published
    classifier = _remove_classifier(model)
    if request.weights and not published and not request.is_random:
        fill(model, request.weights, unused=(f"{classifier}.",))
    model, transform = frozen(model, request.device), weights.transforms()
    return image_network(request, model, transform, ("torchvision", "torch"))


def _remove_classifier(model: nn.Module) -> str:
    """Replaces the last linear layer by nothing; returns its name."""
    linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    if not linear:
        raise ValueError("it has no linear layer before which features can be taken")
    parent, _, name = linear[-1].rpartition(".")
    setattr(model.get_submodule(parent), name, nn.Identity())
    return str(linear[-1])
