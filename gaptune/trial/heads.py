"""Linear heads on stored features, in place of towers."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gaptune.config.models import HEADS
from gaptune.data import StoreMeta
from gaptune.errors import UserError
from gaptune.trial.model import Clip

_WIDTH = 128  # of the embeddings that the heads learn


class LinearHeads(Clip):
    """A linear projection for each modality, on the features of a store that ``build_features`` made.

    To the training it is a ``Clip``: stored features take the place of images and tokens.

    Args:
        data: What the store says of its features.

    Raises:
        UserError: The store holds images.
    """

    def __init__(self, data: StoreMeta) -> None:
        nn.Module.__init__(self)
        if not data.features:
            raise UserError(f"{HEADS} trains on features; make a store of them: gaptune data features {data.name} …")
        self.tower = _Heads(data.features)
        self.name, self.architecture = HEADS, None
        self.image_size, self.context_length = 1, data.context_length

    def pixels(self, images: Tensor) -> Tensor:
        """Stored features, uint8 (n, 2 d), as floats (n, d, 1, 1)."""
        return images.view(torch.float16).float()[:, :, None, None]

    def text_features(self, tokens: Tensor) -> Tensor:
        """L2-normalized embeddings of stored features, shape (n, d), of which tokens hold the bits."""
        return F.normalize(self.tower.encode_text(tokens.to(torch.int16).view(torch.float16).float()), dim=1)


class _Heads(nn.Module):
    """What stands in for open_clip's model."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.image = nn.Linear(features, _WIDTH, bias=False)
        self.text = nn.Linear(features, _WIDTH, bias=False)

    def encode_image(self, pixels: Tensor) -> Tensor:
        return self.image(pixels.flatten(1))  # type: ignore[no-any-return]

    def encode_text(self, features: Tensor) -> Tensor:
        return self.text(features)  # type: ignore[no-any-return]
