"""Image towers of timm: the features before the classifier."""

from __future__ import annotations

from pathlib import Path

from gaptune.towers.tower import Request, Tower, fill, frozen, image_network


def image_tower(request: Request) -> Tower:
    """The pooled features of a model."""
    import timm
    from timm.data import create_transform, resolve_model_data_config

    name = f"local-dir:{request.name}" if Path(request.name).is_dir() else request.name
    model = timm.create_model(name, pretrained=request.weights is None, num_classes=0)
    if request.weights is not None and not request.is_random:
        classifier = model.pretrained_cfg.get("classifier") or ()
        fill(model, request.weights, unused=(classifier,) if isinstance(classifier, str) else classifier)
    model = frozen(model, request.device)
    transform = create_transform(**resolve_model_data_config(model), is_training=False)
    return image_network(request, model, transform, ("timm", "torch"))
