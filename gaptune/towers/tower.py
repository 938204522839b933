"""The interface of a frozen tower: stored images, or texts, become features."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import version
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor, nn

Modality = Literal["image", "text"]

Features = npt.NDArray[np.float32]

EXAMPLE: dict[Modality, Any] = {"image": np.zeros((1, 32, 32, 3), dtype=np.uint8), "text": ["a"]}
"""The least input, which shows whether a tower works, and its width."""

_AT_ONCE = {"cpu": {"image": 4, "text": 32}, "cuda": {"image": 128, "text": 128}}
"""Inputs that a network takes at a time.

On a CPU, the large layers of large batches get new memory from the system each time: EfficientNet-Lite0 takes 38 ms of
CPU time per image and 1.0 GB in batches of 4, and 110 ms and 3.7 GB in batches of 128.
"""

_THREADS = min(8, os.cpu_count() or 1)


@dataclass(frozen=True)
class Request:
    """What a user asks for.

    Attributes:
        reference: The tower as the user named it, such as ``timm:resnet18@random``.
        modality: ``image`` or ``text``.
        name: Name of an architecture or of a model on a hub, or a folder.
        weights: What follows ``@``: weights of that architecture, ``random``, or a revision on a hub; None for the
            default.
        device: Device that the tower runs on.
    """

    reference: str
    modality: Modality
    name: str
    weights: str | None
    device: torch.device

    @property
    def is_random(self) -> bool:
        """Whether random weights are asked for."""
        return self.weights == "random"


@dataclass(frozen=True)
class Tower:
    """A frozen encoder of images or of texts.

    Attributes:
        reference: Its name, such as ``timm:resnet18``.
        modality: ``image`` or ``text``.
        module: The network, in evaluation mode.
        embed: Computes features, shape (n, width), on any device. Takes images, uint8 of shape (n, side, side, 3), or a
            list of n texts.
        preprocessing: Its preprocessing in words or numbers, for people.
        packages: Installed distributions that decide its features.
    """

    reference: str
    modality: Modality
    module: nn.Module = field(repr=False)
    embed: Callable[[Any], Tensor] = field(repr=False)
    preprocessing: str
    packages: Sequence[str]

    def encode(self, inputs: npt.NDArray[np.uint8] | Sequence[str]) -> Features:
        """Features of images or texts.

        Args:
            inputs: Images, uint8 of shape (n, side, side, 3); or n texts, with n > 0.

        Returns:
            Shape (n, width).
        """
        step = _AT_ONCE["cuda" if torch.cuda.is_available() else "cpu"][self.modality]
        with torch.inference_mode():
            parts = [self.embed(inputs[start : start + step]).float().cpu() for start in range(0, len(inputs), step)]
        features: Features = torch.cat(parts).numpy()
        return features

    @cached_property
    def width(self) -> int:
        """Numbers per image or text."""
        return int(self.encode(EXAMPLE[self.modality]).shape[1])

    @cached_property
    def weights_hash(self) -> str:
        """SHA-256 in hex of names, types and values of its weights."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.module.state_dict().items()):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        return digest.hexdigest()

    def describe(self) -> dict[str, Any]:
        """What ``store.json`` says about it; equal descriptions mean equal features."""
        return {
            "tower": self.reference,
            "weights": self.weights_hash,
            "width": self.width,
            "preprocessing": self.preprocessing,
            "versions": {package: version(package) for package in self.packages},
        }


def frozen(module: nn.Module, device: torch.device) -> nn.Module:
    """A network of images, for evaluation, in the memory format in which convolutions are fast on CPUs and GPUs."""
    return module.eval().to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def stacked(images: npt.NDArray[np.uint8], transform: Callable[[Image.Image], Tensor], device: torch.device) -> Tensor:
    """A batch for a network, through the transform of its library, which takes one image of Pillow.

    Args:
        images: uint8, shape (n, side, side, 3).
        transform: Gives the pixels of an image, shape (3, height, width).
        device: Device of the batch.
    """
    several = len(images) > 1
    with ThreadPoolExecutor(_THREADS) if several else nullcontext() as pool:
        each = (pool.map if pool else map)(lambda pixels: transform(Image.fromarray(pixels)), images)
        return torch.stack(list(each)).to(device)


def image_network(
    request: Request, module: nn.Module, transform: Callable[[Image.Image], Tensor], packages: Sequence[str]
) -> Tower:
    """A tower whose network gives features of the pixels that a transform of one image makes."""
    return Tower(
        request.reference,
        "image",
        module,
        lambda images: module(stacked(images, transform, request.device)),
        preprocessing=" ".join(str(transform).split()),
        packages=packages,
    )


def fill(module: nn.Module, file: str, *, unused: Sequence[str] = ()) -> None:
    """Fills a network with the weights of a file, which is never executed.

    Args:
        module: The network.
        file: safetensors, or a PyTorch state dict.
        unused: Prefixes of weights that the network does not have, such as those of a classifier.

    Raises:
        ValueError: The weights do not fit.
    """
    from timm.models import load_state_dict

    tensors: Mapping[str, Tensor] = load_state_dict(file, device="cpu", weights_only=True)
    found = module.load_state_dict(dict(tensors), strict=False)
    surplus = [name for name in found.unexpected_keys if not name.startswith(tuple(unused))]
    for what, names in (("lacks", found.missing_keys), ("has unknown", surplus)):
        if names:
            raise ValueError(f"{file} {what} weights of this architecture, such as {names[0]}")
