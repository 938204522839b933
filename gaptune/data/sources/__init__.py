"""Where images and captions come from: one small interface, and a source for each form that people keep them in."""

from __future__ import annotations

from gaptune.data.sources.base import Pixels, Sample, Source
from gaptune.data.sources.cifar10 import Cifar10
from gaptune.data.sources.coco import Coco
from gaptune.data.sources.imagefolder import ImageFolder
from gaptune.data.sources.mmvp import Mmvp
from gaptune.data.sources.tables import Columns, Csv, Jsonl, Parquet, Table
from gaptune.data.sources.webdataset import WebDataset
from gaptune.errors import UserError, did_you_mean

__all__ = [
    "SOURCES",
    "Cifar10",
    "Coco",
    "Columns",
    "Csv",
    "ImageFolder",
    "Jsonl",
    "Mmvp",
    "Parquet",
    "Pixels",
    "Sample",
    "Source",
    "Table",
    "WebDataset",
    "find_source",
]

SOURCES: dict[str, type[Source]] = {
    source.kind: source for source in (Cifar10, Coco, Csv, ImageFolder, Jsonl, Mmvp, Parquet, WebDataset)
}
"""All sources by their kind, which is what stands before the colon of a name such as ``imagefolder:PATH``."""


def find_source(reference: str) -> Source:
    """The source that a name such as ``imagefolder:PATH`` means.

    Raises:
        UserError: There is no such kind, or nothing of that kind is there, or it cannot be read.
    """
    kind, _, place = reference.partition(":")
    if kind not in SOURCES:
        raise UserError(f"{reference}: no data set is of the kind {kind!r}{did_you_mean(kind, SOURCES)}")
    try:
        return SOURCES[kind].at(place)
    except OSError as error:
        raise UserError(f"{reference} cannot be read: {error.strerror} ({error.filename})") from None
