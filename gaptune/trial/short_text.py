"""A text tower of open_clip on captions cut to their length: what is behind the end token changes no embedding."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

GROUPS = 4
"""Groups of captions of like length that are embedded one after the other on a CPU, where padding costs the most."""
_SMALLEST = 16  # captions of a group: fewer are not worth a pass of their own


def is_causal(tower: Any) -> bool:
    """Whether a text tower sees nothing behind the end token: each token looks back only, and the end token is pooled.

    Args:
        tower: open_clip's model, of either of its classes.
    """
    from open_clip.model import CLIP  # takes seconds to import, and whoever trains heads only does without
    from open_clip.transformer import TextTransformer

    if isinstance(tower, CLIP):
        return tower.attn_mask is not None and tower.text_pool_type in ("argmax", "eos")
    text = getattr(tower, "text", None)
    if not isinstance(text, TextTransformer) or text.attn_mask is None:
        return False
    return text.pool_type in ("argmax", "eos") and text.cls_emb is None and not text.use_pad_mask


def encode_short(tower: Any, ids: Tensor) -> Tensor:
    """Features of tokens that are shorter than the context, by open_clip's own method.

    Its position embeddings and its mask are cut for the call.

    Args:
        tower: Model whose text tower ``is_causal``.
        ids: Tokens, shape (n, length).
    """
    from open_clip.model import CLIP

    path, text = ("", tower) if isinstance(tower, CLIP) else ("text.", tower.text)
    length = ids.shape[1]
    cut = {
        f"tower.{path}positional_embedding": text.positional_embedding[:length],
        f"tower.{path}attn_mask": text.attn_mask[:length, :length],
    }
    features: Tensor = functional_call(_Texts(tower), cut, (ids,), tie_weights=False)
    return features


def by_length(ids: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Captions in groups of like length, each cut to its longest.

    Args:
        ids: Tokens, shape (n, length), on the CPU; 0 is padding.

    Returns:
        The order in which they now are, shape (n,), and the groups.
    """
    places = torch.arange(1, ids.shape[1] + 1)
    lengths = (places * (ids != 0)).amax(1).clamp_(min=1)  # a 0 may also lie between tokens: it is CLIP's "!"
    order = lengths.argsort(stable=True)
    number = max(1, min(GROUPS, len(ids) // _SMALLEST))
    parts = order.tensor_split(number)
    return order, [ids[part, : int(lengths[part[-1]])] for part in parts]


class _Texts(nn.Module):
    """The text tower as a function."""

    def __init__(self, tower: nn.Module) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, ids: Tensor) -> Tensor:
        features: Tensor = self.tower.encode_text(ids)  # type: ignore[operator]
        return features
