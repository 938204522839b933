"""The sample of features that a trial leaves, on its first two principal components."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gaptune.ledger import TrialRecord


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
            both: npt.NDArray[np.float64] = np.concatenate([sample["images"], sample["texts"]]).astype(np.float64)
        left, scale, _ = np.linalg.svd(both - both.mean(axis=0), full_matrices=False)
        images, texts = np.split(left[:, :2] * scale[:2], 2)
    except Exception:  # a damaged file can raise almost anything, and a report does without the picture
        return None
    variance = (scale**2).sum()
    if not np.isfinite(variance) or variance == 0 or images.shape[1] < 2:
        return None
    return {
        "images": images.tolist(),
        "texts": texts.tolist(),
        "explained": (scale[:2] ** 2 / variance).tolist(),
    }
