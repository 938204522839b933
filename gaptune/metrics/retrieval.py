"""Image-text retrieval with several captions per image, counted as the field does."""

from __future__ import annotations

import torch
from torch import Tensor

_BLOCK = 1024
_KS = (1, 5, 10)


def recalls(images: Tensor, texts: Tensor, owner: Tensor) -> dict[str, float]:
    """Recall@1, 5 and 10 in both directions, and their mean.

    Image to text: an image is right when any of its captions is among the best k. Text to image: a caption is right when its image is
    among the best k; the mean is over captions (Karpathy & Fei-Fei 2015, as in CLIP_benchmark). What ties with the right one counts as
    better, so that features that have collapsed score nothing instead of everything.

    Args:
        images: Shape (n, d), L2-normalized.
        texts: Shape (m, d), L2-normalized.
        owner: Shape (m,): row of the image to which each text belongs; every image has at least one.

    Returns:
        ``retrieval/i2t_r1`` … ``retrieval/mean_r10``, as shares.

    Raises:
        ValueError: The shapes do not match, or an image has no text.
    """
    if images.ndim != 2 or texts.ndim != 2 or images.shape[1] != texts.shape[1] or owner.shape != texts.shape[:1]:
        shapes = tuple(images.shape), tuple(texts.shape), tuple(owner.shape)
        raise ValueError(f"expected images (n, d), texts (m, d) and owner (m,), got {shapes}")
    if not bool((torch.bincount(owner, minlength=len(images)) > 0).all()):
        raise ValueError("an image has no text")
    ahead_of_image = torch.zeros(len(texts), dtype=torch.int64, device=texts.device)
    ahead_of_text = torch.empty(len(images), dtype=torch.int64, device=images.device)
    own = (images[owner] * texts).sum(1)
    for start in range(0, len(images), _BLOCK):
        rows = torch.arange(start, min(start + _BLOCK, len(images)), device=images.device)
        cosine = images[rows] @ texts.T
        mine = owner[None, :] == rows[:, None]
        # The same product for the right pairs as for their rivals: a last-bit difference would decide ties.
        own[mine.any(0)] = cosine.T[mine.T]
        best_own = cosine.masked_fill(~mine, -float("inf")).max(dim=1).values
        ahead_of_text[rows] = ((cosine >= best_own[:, None]) & ~mine).sum(1)
    for start in range(0, len(images), _BLOCK):
        rows = torch.arange(start, min(start + _BLOCK, len(images)), device=images.device)
        cosine = images[rows] @ texts.T
        mine = owner[None, :] == rows[:, None]
        ahead_of_image += ((cosine >= own[None, :]) & ~mine).sum(0)
    scores: dict[str, float] = {}
    for k in _KS:
        i2t = float((ahead_of_text < k).double().mean())
        t2i = float((ahead_of_image < k).double().mean())
        scores[f"retrieval/i2t_r{k}"] = i2t
        scores[f"retrieval/t2i_r{k}"] = t2i
        scores[f"retrieval/mean_r{k}"] = (i2t + t2i) / 2
    return scores
