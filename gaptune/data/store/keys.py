"""Which images of several stores are the same: by a hash of their pixels as they are stored."""

from __future__ import annotations

import hashlib
import logging
from contextlib import suppress

import numpy as np
import numpy.typing as npt

from gaptune.data.store.split import Split
from gaptune.errors import UserError
from gaptune.storage.atomic import written_whole
from gaptune.storage.cache import cache_folder

_AT_ONCE = 256  # images that are held at a time

_log = logging.getLogger(__name__)

Keys = npt.NDArray[np.uint64]


def image_keys(split: Split, sha256: str) -> Keys:
    """A hash of each image of a split; equal ones mean equal pixels.

    All images are read the first time. Then the hashes come from the cache, where it can be written.

    Args:
        split: The images.
        sha256: Hash of the split's file, which names its entry in the cache.

    Returns:
        Shape (len(split),): 8 bytes an image.
    """
    file = cache_folder() / "keys" / f"{sha256}.npy"
    with suppress(OSError, ValueError, EOFError):  # not there, or not what was written
        keys: Keys = np.load(file)
        if keys.shape == (len(split),) and keys.dtype == np.uint64:
            return keys
    if split.large:
        _log.warning("comparing %d images with those of other stores, once", len(split))
    keys = np.empty(len(split), dtype=np.uint64)
    for start in range(0, len(split), _AT_ONCE):
        rows = np.arange(start, min(start + _AT_ONCE, len(split)))
        images = split.gather(rows).reshape(len(rows), -1)
        keys[rows] = [int.from_bytes(hashlib.blake2b(image.tobytes(), digest_size=8).digest()) for image in images]
    with suppress(OSError, UserError):  # a cache that cannot be written only costs time
        file.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(file) as place:
            np.save(place, keys)
    return keys
