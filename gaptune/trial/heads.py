"""Linear heads on stored features, in place of towers."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from gaptune.config.models import HEADS
from gaptune.data import FeatureMeta, StoreMeta
from gaptune.errors import UserError
from gaptune.trial.encoder import Augmentation, DualEncoder

_WIDTH = 128  # of the embeddings that the heads learn


class LinearHeads(DualEncoder):
    """A linear projection for each modality, on the features of a store that ``build_features`` made.

    Args:
        data: Description of the store.

    Raises:
        UserError: The store holds images.
    """

    name = HEADS
    image_size = 0
    context_length = 0
    tower: _Heads

    def __init__(self, data: StoreMeta) -> None:
        super().__init__()
        if data.features is None:
            raise UserError(f"{HEADS} trains on features; make a store of them: gaptune data features {data.name} …")
        self.tower = _Heads(data.features)

    def encode_image(self, images: Tensor, augmentation: Augmentation | None = None) -> Tensor:
        """Embeddings of image features, shape (n, d)."""
        return F.normalize(self.tower.image(images.float()).float(), dim=1)

    def encode_text(self, texts: Tensor) -> Tensor:
        """Embeddings of text features, shape (n, d)."""
        return F.normalize(self.tower.text(texts.float()).float(), dim=1)


class _Heads(nn.Module):
    """The weights, by the names that checkpoints hold."""

    def __init__(self, features: FeatureMeta) -> None:
        super().__init__()
        self.image = nn.Linear(features.image, _WIDTH, bias=False)
        self.text = nn.Linear(features.text, _WIDTH, bias=False)
