"""Features of frozen towers in a store."""

import numpy as np
import pytest
import torch
from model_features import features_of

from gaptune.config import ModelConfig
from gaptune.data.info import describe
from gaptune.data.open import open_store
from gaptune.errors import UserError
from gaptune.trial.build_model import make_model
from gaptune.trial.model import ClipModel
from gaptune.trial.streams import global_seed


@pytest.fixture(scope="module")
def built(small_store, tmp_path_factory):
    out = tmp_path_factory.mktemp("features") / "f"
    return features_of(ModelConfig(), open_store(small_store), out, seed=3)


def test_stored_features_are_those_of_the_towers(built, small_store):
    store = open_store(small_store)
    with global_seed(3, torch.device("cpu")):
        clip = ClipModel(ModelConfig(), store.meta).eval()
    rows = np.array([5, 0, 7])
    with torch.no_grad():
        images = clip.encode_image(torch.from_numpy(store.split("val").gather(rows)))
        texts = clip.encode_text(torch.from_numpy(store.split("val").texts[:4].copy()))
    split = built.split("val")
    np.testing.assert_allclose(split.gather(rows), images.numpy(), atol=1e-3)
    np.testing.assert_allclose(split.texts[:4], texts.numpy(), atol=1e-3)
    assert split.captions(0) == store.split("val").captions(0)
    assert dict(describe(built))["image features"].startswith("64 numbers (float16), length 1.000")
    built.verify()


def test_heads_read_back_the_very_features(built):
    model = make_model(ModelConfig(name="heads", width=128, bias=False, normalize=False), built.meta)
    split = built.split("train")
    with torch.no_grad():
        for head in (model.tower.image, model.tower.text):
            head.weight.copy_(torch.eye(128, 64))
        images = model.encode_image(torch.from_numpy(split.gather(np.arange(3))))
        texts = model.encode_text(torch.from_numpy(split.texts[:3].copy()))
    np.testing.assert_allclose(images[:, :64].numpy(), split.gather(np.arange(3)), atol=1e-3)
    np.testing.assert_allclose(texts[:, :64].numpy(), split.texts[:3], atol=1e-3)


def test_features_of_features_are_refused(built, tmp_path):
    with pytest.raises(UserError, match="holds features already"):
        features_of(ModelConfig(), built, tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


def test_different_weights_give_a_different_store(built, small_store, tmp_path):
    other = features_of(ModelConfig(), open_store(small_store), tmp_path / "o", seed=4)
    assert other.meta.content_hash != built.meta.content_hash
