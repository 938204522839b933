"""Gradient checkpointing: activations are computed again for the gradient instead of kept."""

from __future__ import annotations

from typing import Any

from gaptune.trial.encoder import DualEncoder
from gaptune.trial.heads import Heads


def checkpoint_gradients(model: DualEncoder) -> tuple[str, ...]:
    """Switches on gradient checkpointing by open_clip's ``set_grad_checkpointing``, which only some towers have.

    Args:
        model: The model.

    Returns:
        On which of its parts it has no effect, such as ``image tower``.
    """
    if isinstance(model, Heads):
        return ("heads",)
    tower: Any = model.tower
    tower.set_grad_checkpointing(True)
    return () if _has_it(tower.visual) else ("image tower",)


def _has_it(visual: Any) -> bool:
    from open_clip.modified_resnet import ModifiedResNet
    from open_clip.timm_model import TimmModel

    if isinstance(visual, ModifiedResNet):
        return False
    if not isinstance(visual, TimmModel):
        return True
    try:
        visual.trunk.set_grad_checkpointing(True)
    except Exception:  # timm refuses in several ways, and open_clip then does without
        return False
    return True
