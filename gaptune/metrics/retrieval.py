"""Image-text retrieval with several captions per image, counted as the field does."""

from __future__ import annotations

import torch
from torch import Tensor

from gaptune.metrics.embeddings import Embeddings, check_owner
from gaptune.metrics.intervals import Outcomes
from gaptune.metrics.ties import rounding

_BLOCK = 256
_KS = (1, 5, 10)


def measure(embeddings: Embeddings) -> dict[str, float]:
    """The recalls in both directions, and their mean.

    Returns:
        ``retrieval/i2t_r1`` … ``retrieval/mean_r10``, as fractions.
    """
    hits = recalls(embeddings.images, embeddings.texts, embeddings.owner)
    metrics: dict[str, float] = {}
    for k in _KS:
        i2t, t2i = (hits[f"retrieval/{way}_r{k}"].mean() for way in ("i2t", "t2i"))
        metrics |= {f"retrieval/i2t_r{k}": i2t, f"retrieval/t2i_r{k}": t2i, f"retrieval/mean_r{k}": (i2t + t2i) / 2}
    return metrics


def recalls(images: Tensor, texts: Tensor, owner: Tensor) -> dict[str, Outcomes]:
    """Recall@1, 5 and 10 in both directions, query by query.

    Image to text: an image is right when any of its captions is among the best k. Text to image: a caption is right
    when its image is among the best k; the mean is over captions (Karpathy & Fei-Fei 2015, as in CLIP_benchmark).
    Ties with the right one, to within rounding, count as better, so that collapsed features get a recall of 0 instead
    of 1.

    Args:
        images: Shape (n, d), L2-normalized.
        texts: Shape (m, d), L2-normalized.
        owner: Shape (m,): row of the image to which each text belongs; every image has at least one.

    Returns:
        ``retrieval/i2t_r1`` … ``retrieval/t2i_r10``: n images, or m captions with the image of each.

    Raises:
        ValueError: The shapes do not match, or an image has no text, or a text no image.
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
    check_owner(images, texts, owner)
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
