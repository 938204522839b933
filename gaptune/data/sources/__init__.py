"""Where images and captions come from: one small interface, and a source for each form that people keep them in."""

from __future__ import annotations

from gaptune.data.sources.base import Pixels, Sample, Source
from gaptune.data.sources.cifar10 import Cifar10
from gaptune.data.sources.coco import Coco
from gaptune.data.sources.imagefolder import ImageFolder
from gaptune.data.sources.mmvp import Mmvp
from gaptune.data.sources.tables import Columns, Table
from gaptune.data.sources.webdataset import WebDataset
from gaptune.errors import UserError, did_you_mean

__all__ = [
    "KINDS",
    "Cifar10",
    "Coco",
    "Columns",
    "ImageFolder",
    "Mmvp",
    "Pixels",
    "Sample",
    "Source",
    "Table",
    "WebDataset",
    "find_source",
]

KINDS = ("cifar10", "coco", "csv", "imagefolder", "jsonl", "mmvp", "parquet", "webdataset")
"""What stands before the colon of a name such as ``imagefolder:PATH``."""


def find_source(reference: str) -> Source:
    """The source that a name such as ``imagefolder:PATH`` means.

    Raises:
        UserError: There is no such kind, or nothing of that kind is there, or it cannot be read.
    """
    kind, _, place = reference.partition(":")
    try:
        return _find(kind, place)
    except OSError as error:
        raise UserError(f"{reference} cannot be read: {error.strerror} ({error.filename})") from None


def _find(kind: str, place: str) -> Source:
    match kind:
        case "cifar10":
            return Cifar10.at(place)
        case "coco":
            return Coco.at(place)
        case "imagefolder":
            return ImageFolder.at(place)
        case "csv" | "jsonl" | "parquet":
            return Table.at(kind, place)
        case "mmvp":
            return Mmvp.at(place)
        case "webdataset":
            return WebDataset.at(place)
    raise UserError(f"{kind}:{place}: no data set is of the kind {kind!r}{did_you_mean(kind, KINDS)}")
