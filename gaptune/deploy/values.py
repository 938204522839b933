"""Values that were not filled in, and images that are not pinned."""

from __future__ import annotations

import re
from collections.abc import Iterator

from gaptune.deploy.file import ClusterFile, Loc
from gaptune.errors import UserError, brief

_PLACEHOLDER = re.compile(
    r"\b(?:FILL|CHANGE|REPLACE)[_ -]?(?:IN|ME|THIS)\b|\bTODO\b|\bX{3,}\b"  # FILL_IN, CHANGE_ME, TODO, XXX
    r"|<[A-Za-z][\w-]*>"  # <your-bucket>
    r"|(?<![\w$])your[-_]\w+|(?<![\w$])YOUR[-_]\w+"
)
_NAME = re.compile(r"(?<![\w${/.-])(?!(?:RAY|CUDA|NCCL|NVIDIA|PIP|UV|OMP|LD|LC|HF|TORCH|GAPTUNE|MLFLOW)_)"
                   r"[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+\b(?!\s*=)")  # fmt: skip
"""A name in capitals such as NFS_SERVER that is neither assigned nor a variable of a known library."""
_WORD = re.compile(r"[A-Z][A-Z0-9_-]{2,}")
_OPTIONAL = ("idle_timeout_s",)
"""Entries that may be null."""


def value_problems(file: ClusterFile) -> Iterator[UserError]:
    """Values that still have to be filled in; one to which others refer by an alias is reported once."""
    seen: set[int] = set()
    for loc, value in file.scalars():
        if not _is_unfilled(loc, value) or id(value) in seen:  # an alias is the same object
            continue
        what = "no value"
        if value:
            seen.add(id(value))
            what = f"{brief(value)} is not filled in"
        yield file.problem(f"{what}; write {file.comment(*loc) or 'a value'}", *loc)


def _is_unfilled(loc: Loc, value: object) -> bool:
    if value is None or value == "":
        return loc[-1] not in _OPTIONAL
    if not isinstance(value, str):
        return False
    if _PLACEHOLDER.search(value) or value.strip(" .…") == "":
        return True
    if loc[0] == "metadata":
        return _WORD.fullmatch(value) is not None
    return "node_config" not in loc and _NAME.search(value) is not None  # clouds have constants in capitals


def image_problems(file: ClusterFile) -> Iterator[UserError]:
    """Images of machines and containers that are not pinned, or missing."""
    for loc, value in file.scalars():
        if isinstance(value, str) and "docker" in loc and loc[-1] in ("image", "head_image", "worker_image"):
            name, _, digest = value.partition("@sha256:")
            tag = name.rpartition("/")[2].partition(":")[2]
            if not digest and not re.search(r"\d", tag.partition("-")[0]):
                yield file.problem(f"{value} is not pinned; write a tag with a version, such as {_suggested()}", *loc)
    for name, kind in file.mapping("available_node_types").items():
        config = kind.get("node_config") or {}
        where = ("available_node_types", name, "node_config")
        if file.provider == "aws":
            yield from _amazon_image(file, config.get("ImageId"), where)
        elif file.provider == "gcp":
            yield from _google_image(file, config.get("disks"), where)


def _suggested() -> str:
    from gaptune.deploy.versions import Versions

    return f"rayproject/ray:{Versions.installed().tag}"


def _amazon_image(file: ClusterFile, image: object, where: Loc) -> Iterator[UserError]:
    form = "write the id of a Deep Learning AMI of your region, such as ami-0123456789abcdef0"
    if image is None:
        yield file.problem(f"no ImageId: Ray would take an image of Ubuntu 18.04, too old for torch; {form}", *where)
    elif not re.fullmatch(r"ami-([0-9a-f]{8}|[0-9a-f]{17})", str(image)):
        yield file.problem(f"{brief(image)} is not the id of an image; {form}", *where, "ImageId")


def _google_image(file: ClusterFile, disks: object, where: Loc) -> Iterator[UserError]:
    for index, disk in enumerate(disks if isinstance(disks, list) else []):
        params = disk.get("initializeParams") if isinstance(disk, dict) else None
        source = params.get("sourceImage") if isinstance(params, dict) else None
        if isinstance(source, str) and "/family/" in source:
            loc = (*where, "disks", index, "initializeParams", "sourceImage")
            yield file.problem(f"{source} is a family, which changes; write one image of it", *loc)
