"""A model's scores on held-out data."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from gaptune.data import Split, Store
from gaptune.data.tokens import tokenize
from gaptune.errors import UserError
from gaptune.metrics import class_embeddings, linear_probe, score_pairs, zero_shot
from gaptune.trial.augment import resize
from gaptune.trial.loss import NonFinite
from gaptune.trial.model import Clip

_BATCH = 512


class Evaluator:
    """Scores a model on a store's validation split and, where it has labels, by zero-shot and linear probe.

    Args:
        store: The data.
        device: Of the model.
        precision: ``fp32``, or ``bf16`` for autocast.

    Raises:
        UserError: There is a single validation image, or probe images have no labels.
    """

    def __init__(self, store: Store, device: torch.device, precision: str) -> None:
        self._store = store
        self._device = device
        self._autocast = precision == "bf16"
        self._val = store.split("val")
        if len(self._val) < 2:
            raise UserError(f"{store.path} has a single val image; scores of pairs need two")
        counts = np.diff(self._val.offsets)
        self._owner = torch.from_numpy(np.repeat(np.arange(len(self._val)), counts)).to(device)
        self._probes: dict[str, tuple[Split, Tensor]] = {}
        if store.meta.classes and "probe_train" in store and "probe_test" in store:
            for name in ("probe_train", "probe_test"):
                split = store.split(name)
                if split.labels is None:
                    raise UserError(f"{store.path} has images without a label in {name}")
                self._probes[name] = split, torch.from_numpy(split.labels).to(device)

    @torch.no_grad()
    def __call__(self, model: Clip) -> dict[str, float]:
        """All scores of ``gaptune.scores`` that come from embeddings.

        Raises:
            NonFinite: A feature is not finite.
        """
        was_training = model.training
        model.eval()
        try:
            scores = score_pairs(self._images(model, self._val), self._texts(model, self._val.tokens), self._owner)
            if self._probes:
                scores |= self._classification(model)
        finally:
            model.train(was_training)
        return scores

    def _classification(self, model: Clip) -> dict[str, float]:
        meta = self._store.meta
        prompts = [template.format(name) for name in meta.classes for template in meta.prompts]
        classes = class_embeddings(self._texts(model, tokenize(prompts, meta.context_length)), len(meta.classes))
        train, train_labels = self._probes["probe_train"]
        test, test_labels = self._probes["probe_test"]
        train_images, test_images = self._images(model, train), self._images(model, test)
        return {
            "zeroshot/accuracy": zero_shot(test_images, classes, test_labels),
            "probe/accuracy": linear_probe(train_images, train_labels, test_images, test_labels),
        }

    def _images(self, model: Clip, split: Split) -> Tensor:
        parts = []
        for start in range(0, len(split), _BATCH):
            rows = np.arange(start, min(start + _BATCH, len(split)))
            with torch.autocast(self._device.type, torch.bfloat16, enabled=self._autocast):
                pixels = model.pixels(torch.from_numpy(split.gather(rows)).to(self._device))
                parts.append(model.image_features(resize(pixels, model.image_size)))
        return _finite(torch.cat(parts), "image")

    def _texts(self, model: Clip, tokens: np.ndarray[tuple[int, ...], np.dtype[np.uint16]]) -> Tensor:
        parts = []
        for start in range(0, len(tokens), _BATCH):
            with torch.autocast(self._device.type, torch.bfloat16, enabled=self._autocast):
                batch = torch.from_numpy(tokens[start : start + _BATCH].astype(np.int64))
                parts.append(model.text_features(batch.to(self._device)))
        return _finite(torch.cat(parts), "text")


def _finite(features: Tensor, kind: str) -> Tensor:
    if not bool(torch.isfinite(features).all()):
        raise NonFinite(f"{kind} features are not finite")
    return features
