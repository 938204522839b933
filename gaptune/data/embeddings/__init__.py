"""Stores from embeddings that exist: features of images and texts in files, paired, ordered by content, and checked."""

from gaptune.data.embeddings.build import build_embeddings
from gaptune.data.embeddings.request import Request

__all__ = ["Request", "build_embeddings"]
