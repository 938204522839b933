"""Towers that take no time: the mean color of an image, and the length of a text with its first letter."""

import torch
from torch import nn

from gaptune.towers.tower import Tower


class SmallTowers:
    """A pair of towers that counts what it encodes.

    Args:
        scale: The weights: towers of another scale are other towers.
        broken_at: Number of images after which the image tower raises KeyboardInterrupt.
        pause: Called before each batch of images.
    """

    def __init__(self, scale=1.0, *, broken_at=None, pause=lambda: None):
        self.scale, self.broken_at, self.pause = scale, broken_at, pause
        self.images, self.texts = 0, []
        module = nn.Linear(1, 1)
        nn.init.constant_(module.weight, scale)
        nn.init.zeros_(module.bias)
        self.pair = (
            Tower("small:color", "image", module.eval(), self._image, "none", ("torch",)),
            Tower("small:length", "text", module.eval(), self._text, "none", ("torch",)),
        )
        assert [tower.width for tower in self.pair] == [3, 2]
        self.images, self.texts = 0, []

    def _image(self, images):
        self.pause()
        if self.broken_at is not None and self.images >= self.broken_at:
            raise KeyboardInterrupt
        self.images += len(images)
        return torch.from_numpy(images).float().mean((1, 2)) / 255 * self.scale

    def _text(self, texts):
        self.texts += texts
        return torch.tensor([[len(text), ord(text[0])] for text in texts]).float() / 128 * self.scale
