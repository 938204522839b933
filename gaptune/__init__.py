"""gaptune: search the trade-off between modality gap, retrieval and uniformity of CLIP-style models."""

__version__ = "0.1.0"
