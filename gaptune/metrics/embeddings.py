"""All metrics of paired embeddings."""

from __future__ import annotations

import torch
from torch import Tensor

from gaptune.metrics.geometry import alignment, gap, margin_and_mismatched
from gaptune.metrics.retrieval import recalls
from gaptune.metrics.uniformity import w2, wang_isola


def embedding_metrics(images: Tensor, texts: Tensor, owner: Tensor) -> dict[str, float]:
    """All scores of geometry, uniformity and retrieval; pairs are each image with its first caption.

    Args:
        images: Shape (n, d), L2-normalized.
        texts: Shape (m, d), L2-normalized.
        owner: Shape (m,): row of the image to which each text belongs; every image has at least one.

    Raises:
        ValueError: The shapes do not match, or a feature is not finite.
    """
    if not (bool(torch.isfinite(images).all()) and bool(torch.isfinite(texts).all())):
        raise ValueError("features are not finite")
    found = recalls(images, texts, owner)
    rows = torch.arange(len(texts), device=owner.device)
    first = torch.full_like(owner[: len(images)], len(texts)).scatter_reduce(0, owner, rows, "amin")
    paired = texts[first]
    margin, mismatched = margin_and_mismatched(images, paired)
    both = torch.cat([images, paired])
    return {
        "geometry/gap": gap(images, paired),
        "geometry/alignment": alignment(images, paired),
        "geometry/margin": margin,
        "geometry/mismatched": mismatched,
        "uniformity/w2": w2(both),
        "uniformity/w2_image": w2(images),
        "uniformity/w2_text": w2(paired),
        "uniformity/wang_isola": wang_isola(both),
        "uniformity/wang_isola_image": wang_isola(images),
        "uniformity/wang_isola_text": wang_isola(paired),
        **found,
    }
