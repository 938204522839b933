"""Image-text retrieval with several captions per image, counted as the field does."""

from __future__ import annotations

import torch
from torch import Tensor

from gaptune.metrics.intervals import Outcomes
from gaptune.metrics.ties import rounding

_BLOCK = 256
_KS = (1, 5, 10)


def recalls(images: Tensor, texts: Tensor, owner: Tensor) -> dict[str, float]:
    """Recall@1, 5 and 10 in both directions, and their mean.

    Image to text: an image is right when any of its captions is among the best k. Text to image: a caption is right
    when its image is among the best k; the mean is over captions (Karpathy & Fei-Fei 2015, as in CLIP_benchmark).
    What ties with the right one, to within rounding, counts as better, so that features that have collapsed score
    nothing instead of everything.

    Args:
        images: Shape (n, d), L2-normalized.
        texts: Shape (m, d), L2-normalized.
        owner: Shape (m,): row of the image to which each text belongs; every image has at least one.

    Returns:
        ``retrieval/i2t_r1`` … ``retrieval/mean_r10``, as fractions.

    Raises:
        ValueError: The shapes do not match, or an image has no text, or a text no image.
    """
    texts_ahead, images_ahead = _rivals_ahead(images, texts, owner)
    scores: dict[str, float] = {}
    for k in _KS:
        i2t = float((texts_ahead < k).double().mean())
        t2i = float((images_ahead < k).double().mean())
        scores[f"retrieval/i2t_r{k}"] = i2t
        scores[f"retrieval/t2i_r{k}"] = t2i
        scores[f"retrieval/mean_r{k}"] = (i2t + t2i) / 2
    return scores


def recall_hits(images: Tensor, texts: Tensor, owner: Tensor) -> dict[str, Outcomes]:
    """The recalls of both directions query by query: arguments and errors are those of ``recalls``.

    Returns:
        ``retrieval/i2t_r1`` … ``retrieval/t2i_r10``: n images, or m captions with the image of each.
    """
    texts_ahead, images_ahead = _rivals_ahead(images, texts, owner)
    ways = {"i2t": (texts_ahead.cpu(), None), "t2i": (images_ahead.cpu(), owner.cpu())}
    return {
        f"retrieval/{way}_r{k}": Outcomes((ahead < k).double(), images=image)
        for way, (ahead, image) in ways.items()
        for k in _KS
    }


def _rivals_ahead(images: Tensor, texts: Tensor, owner: Tensor) -> tuple[Tensor, Tensor]:
    """How many wrong ones are at least as near as the best right one: of each image (n,), and of each text (m,)."""
    fits = images.ndim == texts.ndim == 2 and images.shape[1] == texts.shape[1] and owner.shape == texts.shape[:1]
    if not fits or len(images) == 0:
        shapes = tuple(images.shape), tuple(texts.shape), tuple(owner.shape)
        raise ValueError(f"expected images (n, d), texts (m, d) and owner (m,), got {shapes}")
    every = torch.arange(len(images), device=owner.device)
    if not bool(torch.isin(every, owner).all() and torch.isin(owner, every).all()):
        raise ValueError("an image has no text, or a text no image")
    tie = rounding(images)
    texts_ahead, images_ahead = [], []
    for rows in _blocks(images):
        cosine = images[rows] @ texts.T
        mine = owner[None, :] == rows[:, None]
        best_own = cosine.masked_fill(~mine, -float("inf")).max(dim=1, keepdim=True).values
        texts_ahead.append(((cosine >= best_own - tie) & ~mine).sum(1))
    for rows in _blocks(texts):
        cosine = texts[rows] @ images.T
        images_ahead.append((cosine >= cosine.gather(1, owner[rows, None]) - tie).sum(1) - 1)
    return torch.cat(texts_ahead), torch.cat(images_ahead)


def _blocks(features: Tensor) -> tuple[Tensor, ...]:
    return torch.split(torch.arange(len(features), device=features.device), _BLOCK)
