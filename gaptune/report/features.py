"""The sample of features that a trial leaves, on its first two principal components."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from gaptune.ledger import TrialRecord
from gaptune.results.pca import principal_components


def projection(folder: Path, trial: TrialRecord) -> dict[str, Any] | None:
    """The sample of a trial as the page draws it.

    Args:
        folder: The sweep's folder.
        trial: The trial.

    Returns:
        ``images`` and ``texts`` as n pairs of coordinates each, and ``explained``, the two components' fractions of the
        variance. None where the trial has no usable sample, or where all of its features are equal.
    """
    path = folder / "trials" / f"{trial.number:04d}" / "sample.npz"
    if not path.exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as sample:
            images, texts = (sample[name].astype(np.float64) for name in ("images", "texts"))
        components = principal_components(np.concatenate([images, texts]))
    except Exception:  # a damaged file can raise almost anything, and a report does without the plot
        return None
    if len(components.explained) < 2 or not np.isfinite(components.explained).all():
        return None
    return {
        "images": components.project(images).tolist(),
        "texts": components.project(texts).tolist(),
        "explained": components.explained.tolist(),
    }
