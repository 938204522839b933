"""Pairs of images and captions as memory-mapped stores."""

from gaptune.data.open import look_up, open_store, open_training
from gaptune.data.store.columns import FeatureMeta
from gaptune.data.store.meta import StoreMeta
from gaptune.data.store.mixture import Mixture
from gaptune.data.store.reader import Store
from gaptune.data.store.split import Split
from gaptune.data.store.writer import StoreWriter

__all__ = [
    "FeatureMeta",
    "Mixture",
    "Split",
    "Store",
    "StoreMeta",
    "StoreWriter",
    "look_up",
    "open_store",
    "open_training",
]
