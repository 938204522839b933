"""The description of a data store in store.json, and the hash of its content."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gaptune.data.store.columns import FeatureMeta
from gaptune.errors import UserError

META = "store.json"
FORMAT = 3
"""Format of new stores. Older ones can be read too.

Format 1 holds features as bytes, not as numbers. Before format 3, the content hash of features also covers names and
captions.
"""
PROMPT_FEATURES = "prompts.npy"
"""File of the features of class prompts."""
_ESCAPED = re.compile("[\udc80-\udcff]")  # how Python holds a byte of a name that is not UTF-8


def storable(text: str) -> str:
    """A text as UTF-8 can hold it: bytes of a name that is not UTF-8 are read as Latin-1, halves of surrogates lost."""
    if text.isascii():
        return text
    return _ESCAPED.sub(lambda byte: chr(ord(byte[0]) - 0xDC00), text).encode("utf-8", "replace").decode("utf-8")


@dataclass(frozen=True)
class FileMeta:
    """Size of a file: ``bytes`` shows a truncated one at once, ``sha256`` a changed one."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class SplitMeta:
    """Size of a split, and of its file, see ``FileMeta``.

    Attributes:
        images: Number of images.
        captions: Number of captions.
        bytes: Size of the file.
        sha256: Hash of the file.
        content: Hash of the features, see ``gaptune.data.store.content``; empty for images, where the file counts.
    """

    images: int
    captions: int
    bytes: int
    sha256: str
    content: str = ""


@dataclass(frozen=True)
class StoreMeta:
    """The content of ``store.json``.

    Attributes:
        name: Name for people.
        image_size: Side of the square images in pixels; 0 in a store of features.
        context_length: Token ids per caption; 0 in a store of features.
        content_hash: SHA-256 in hex over everything a training sees.
        splits: Sizes by split.
        vocabulary: Sorted ids of the tokens that training captions and prompts use, start and end included.
        classes: Names of the classes; empty without labels.
        prompts: Templates such as ``a photo of a {}`` for zero-shot classification.
        source: Origin: arguments, versions, what was left out.
        features: Sizes of the features that the store holds in place of images and tokens; None for images and tokens.
        prompt_features: File of the features of class prompts, which stand for the texts that templates and names make;
            None without. Where they came without texts, ``prompts`` are placeholders.
    """

    name: str
    image_size: int
    context_length: int
    content_hash: str
    splits: Mapping[str, SplitMeta]
    vocabulary: tuple[int, ...]
    classes: tuple[str, ...] = ()
    prompts: tuple[str, ...] = ()
    source: Mapping[str, Any] = field(default_factory=dict)
    features: FeatureMeta | None = None
    prompt_features: FileMeta | None = None

    @property
    def files(self) -> dict[str, FileMeta]:
        """All files of the store but ``store.json``, by their names."""
        files = {f"{name}.arrow": FileMeta(split.bytes, split.sha256) for name, split in self.splits.items()}
        return files | ({PROMPT_FEATURES: self.prompt_features} if self.prompt_features else {})

    @property
    def images(self) -> str:
        """What stands for an image, in words."""
        return f"features of {self.features}" if self.features else f"images of {self.image_size} pixels"


def check_meta(meta: StoreMeta) -> None:
    """Looks at the types and ranges of what ``store.json`` says: a damaged one can be JSON still.

    Raises:
        ValueError: Something in it cannot be.
    """
    sizes = {} if meta.features else {"image_size": meta.image_size, "context_length": meta.context_length}
    counts: dict[str, int] = {}
    for name, split in meta.splits.items():
        counts |= {f"splits.{name}.{field}": getattr(split, field) for field in ("images", "captions", "bytes")}
    if meta.prompt_features:
        counts["prompt_features.bytes"] = meta.prompt_features.bytes
    for least, numbers in ((1, sizes), (0, counts)):
        for name, number in numbers.items():
            if type(number) is not int or number < least:
                raise ValueError(f"{name} is {number!r}")
    texts = {"name": meta.name, "content_hash": meta.content_hash}
    for name, split in meta.splits.items():
        texts |= {f"splits.{name}.sha256": split.sha256, f"splits.{name}.content": split.content}
    if meta.prompt_features:
        texts["prompt_features.sha256"] = meta.prompt_features.sha256
    texts |= {f"classes[{index}]": name for index, name in enumerate(meta.classes)}
    texts |= {f"prompts[{index}]": prompt for index, prompt in enumerate(meta.prompts)}
    for name, text in texts.items():
        if type(text) is not str:
            raise ValueError(f"{name} is {text!r}")
    if any(type(token) is not int or not 0 <= token < 2**16 for token in meta.vocabulary):
        raise ValueError("vocabulary is no list of token ids")
    if not isinstance(meta.source, dict):
        raise ValueError(f"source is {meta.source!r}")


def refuse_empty(path: Path, splits: Mapping[str, SplitMeta]) -> None:
    """Refuses a store without images.

    Raises:
        UserError: It has no split, or one without images.
    """
    if not splits:
        raise UserError(f"empty data: {path} has no images")
    for name, split in splits.items():
        if not split.images:
            raise UserError(f"empty data: {path} has no {name} images")


def sha256_of(path: Path) -> str:
    """A file's SHA-256 in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def content_hash_of(
    splits: Mapping[str, SplitMeta],
    classes: Sequence[str],
    prompts: Sequence[str],
    prompt_features: FileMeta | None = None,
) -> str:
    """SHA-256 in hex over everything a training sees."""
    content: dict[str, Any] = {
        "splits": {name: split.content or split.sha256 for name, split in splits.items()},
        "classes": list(classes),
        "prompts": list(prompts),
    }
    if prompt_features:
        content["prompt_features"] = prompt_features.sha256
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
